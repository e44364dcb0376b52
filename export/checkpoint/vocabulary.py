"""Read the vocabulary for llama.cpp: the tokenizer's pieces and the added tokens, one per embedding row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gguf import TokenType

from aesedge.errors import CheckpointError

from .json_file import read_json_object
from .tokenizer_json import open_tokenizer_json, read_tokenizer_json
from .tokenizer_model import open_tokenizer_model, read_tokenizer_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL_FILE, JSON_FILE = "tokenizer.model", "tokenizer.json"

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


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer."""
    return (folder / MODEL_FILE).is_file() or (folder / JSON_FILE).is_file()


def open_tokenizer(folder: Path) -> Callable[[str], list[int]]:
    """Return the checkpoint's own way from a text to its ids, without BOS."""
    if (folder / MODEL_FILE).is_file():
        return open_tokenizer_model(folder / MODEL_FILE)
    return open_tokenizer_json(folder / JSON_FILE)


def read_vocabulary(folder: Path, n_rows: int, special: dict[str, int | None]) -> Vocabulary:
    """Read ``tokenizer.model``, else ``tokenizer.json``, and the added tokens of a checkpoint.

    Args:
        folder: the checkpoint.
        n_rows: rows of the token embedding; rows without a token become unused tokens.
        special: ids of ``bos``, ``eos`` and ``pad`` that the configuration names; None where it names none.

    Raises:
        CheckpointError: there is no tokenizer, it is of another kind, or it has more tokens than rows.
    """
    if (folder / MODEL_FILE).is_file():
        file, trained = MODEL_FILE, read_tokenizer_model(folder / MODEL_FILE)
    elif (folder / JSON_FILE).is_file():
        file, trained = JSON_FILE, read_tokenizer_json(folder / JSON_FILE)
    else:
        raise CheckpointError(f"{folder}: {MODEL_FILE} is missing, and {JSON_FILE} too; copy one from the base model")
    n_pieces = len(trained.texts)
    if n_pieces > n_rows:
        raise CheckpointError(
            f"{folder}: {file} has {n_pieces} tokens, the token embedding {n_rows} rows; "
            "one of them is of another model, use the files as they were published together"
        )
    pieces = trained.texts + [f"[PAD{i}]" for i in range(n_pieces, n_rows)]
    scores = trained.scores + [_UNREACHABLE] * (n_rows - n_pieces)
    types = trained.types + [int(TokenType.UNUSED)] * (n_rows - n_pieces)
    for token_id, (text, is_special) in _added_tokens(folder).items():
        # Some Llama tokenizers list a <pad> beyond the rows; the model can neither read nor write it.
        if n_pieces <= token_id < n_rows:
            pieces[token_id] = text
            types[token_id] = int(TokenType.CONTROL if is_special else TokenType.USER_DEFINED)
    return Vocabulary(
        pieces,
        scores,
        types,
        bos=_chosen("bos", special["bos"], trained.bos, n_rows),
        eos=_chosen("eos", special["eos"], trained.eos, n_rows),
        unk=trained.unk,
        pad=special["pad"] if special["pad"] is not None and 0 <= special["pad"] < n_rows else None,
    )


def _chosen(name: str, configured: int | None, trained: int, n_rows: int) -> int:
    chosen = trained if configured is None else configured
    if not 0 <= chosen < n_rows:
        raise CheckpointError(f"token id {chosen} for {name} is not in the vocabulary of {n_rows}; check config.json")
    return chosen


def _added_tokens(folder: Path) -> dict[int, tuple[str, bool]]:
    """Return id to (text, is it special) of tokens that were added after the tokenizer was trained."""
    listed = read_json_object(folder / "added_tokens.json")
    file = read_json_object(folder / JSON_FILE)
    settings = read_json_object(folder / "tokenizer_config.json")
    added: dict[int, tuple[str, bool]] = {}
    try:
        added |= {int(token_id): (str(text), True) for text, token_id in listed.items()}
        decoder = settings.get("added_tokens_decoder", {})
        for token_id, entry in [(e["id"], e) for e in file.get("added_tokens", [])] + list(decoder.items()):
            added[int(token_id)] = (str(entry["content"]), bool(entry.get("special", True)))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: the added tokens are not as they must be ({error}); copy them again"
        ) from None
    return added
