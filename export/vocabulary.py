"""The vocabulary that llama.cpp needs, read from a sentencepiece model and the tokens added to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gguf import TokenType
from sentencepiece import sentencepiece_model_pb2

from aesedge.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_BPE = 2  # TrainerSpec.ModelType
_UNREACHABLE = -10000.0  # score of tokens that merging must never produce, as llama.cpp's converter sets it


@dataclass(frozen=True)
class Vocabulary:
    """One entry per row of the token embedding."""

    pieces: list[str]
    scores: list[float]
    types: list[int]
    """Values of :class:`gguf.TokenType`."""
    bos: int
    eos: int
    unk: int
    pad: int | None


def read_vocabulary(folder: Path, n_rows: int, special: dict[str, int | None]) -> Vocabulary:
    """Read ``tokenizer.model`` and the added tokens of a checkpoint.

    Args:
        folder: the checkpoint.
        n_rows: rows of the token embedding; rows without a token become unused tokens.
        special: ids of ``bos``, ``eos`` and ``pad`` that the configuration names; None where it names none.

    Raises:
        CheckpointError: there is no ``tokenizer.model``, it is of another kind, or it has more tokens than rows.
    """
    model = _read_sentencepiece(folder / "tokenizer.model")
    n_pieces = len(model.pieces)
    if n_pieces > n_rows:
        raise CheckpointError(
            f"{folder}: tokenizer.model has {n_pieces} tokens, the token embedding {n_rows} rows; "
            "one of them is of another model, use the files as they were published together"
        )
    pieces = [p.piece for p in model.pieces] + [f"[PAD{i}]" for i in range(n_pieces, n_rows)]
    scores = [p.score for p in model.pieces] + [_UNREACHABLE] * (n_rows - n_pieces)
    # sentencepiece and GGUF number the kinds of token alike.
    types = [int(p.type) for p in model.pieces] + [int(TokenType.UNUSED)] * (n_rows - n_pieces)
    for token_id, (text, is_special) in _added_tokens(folder).items():
        # Some Llama tokenizers list a <pad> beyond the rows; the model can neither read nor write it.
        if n_pieces <= token_id < n_rows:
            pieces[token_id] = text
            types[token_id] = int(TokenType.CONTROL if is_special else TokenType.USER_DEFINED)
    trainer = model.trainer_spec
    return Vocabulary(
        pieces,
        scores,
        types,
        bos=_chosen("bos", special["bos"], trainer.bos_id, n_rows),
        eos=_chosen("eos", special["eos"], trainer.eos_id, n_rows),
        unk=trainer.unk_id,
        pad=special["pad"] if special["pad"] is not None and 0 <= special["pad"] < n_rows else None,
    )


def _read_sentencepiece(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent}: tokenizer.model is missing; copy it from the base model "
            "(a tokenizer.json alone cannot be exported yet)"
        )
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError class differs between its implementations
        raise CheckpointError(f"{path}: not a sentencepiece model ({error}); copy it again") from None
    # llama.cpp merges pairs by score and does not normalise, as Llama's tokenizer does.
    if model.trainer_spec.model_type != _BPE:
        raise CheckpointError(f"{path}: not a BPE tokenizer as Llama uses it; llama.cpp would split text differently")
    normalizer = model.normalizer_spec
    if normalizer.name != "identity" or normalizer.remove_extra_whitespaces or not normalizer.add_dummy_prefix:
        raise CheckpointError(
            f"{path}: normalises text ('{normalizer.name}'), which Llama's tokenizer does not; train it with "
            "normalization_rule_name='identity', remove_extra_whitespaces=False, add_dummy_prefix=True"
        )
    return model


def _chosen(name: str, configured: int | None, trained: int, n_rows: int) -> int:
    chosen = trained if configured is None else configured
    if not 0 <= chosen < n_rows:
        raise CheckpointError(f"token id {chosen} for {name} is not in the vocabulary of {n_rows}; check config.json")
    return chosen


def _added_tokens(folder: Path) -> dict[int, tuple[str, bool]]:
    """Return id to (text, is it special) of tokens that were added after the tokenizer was trained."""
    added: dict[int, tuple[str, bool]] = {}
    for text, token_id in _json(folder / "added_tokens.json").items():
        added[int(token_id)] = (text, True)
    for entry in _json(folder / "tokenizer.json").get("added_tokens", []):
        added[int(entry["id"])] = (entry["content"], bool(entry.get("special", True)))
    for token_id, entry in _json(folder / "tokenizer_config.json").get("added_tokens_decoder", {}).items():
        added[int(token_id)] = (entry["content"], bool(entry.get("special", True)))
    return added


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_bytes())
    except ValueError:
        raise CheckpointError(f"{path}: not valid JSON; download it again") from None
    return loaded if isinstance(loaded, dict) else {}
