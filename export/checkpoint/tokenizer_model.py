"""Read Llama's tokenizer from sentencepiece's ``tokenizer.model``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from aesedge.errors import CheckpointError
from aesedge.system.error_text import error_text
from aesedge.system.git_lfs import refuse_git_lfs_pointer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BPE = 2  # TrainerSpec.ModelType


@dataclass(frozen=True)
class Pieces:
    """What a tokenizer was trained to, by id; later additions are not among it."""

    texts: list[str]
    scores: list[float]
    types: list[int]
    """Values of :class:`gguf.TokenType`, which numbers them as sentencepiece does."""
    bos: int
    eos: int
    unk: int


def read_tokenizer_model(path: Path) -> Pieces:
    """Read a sentencepiece model.

    Raises:
        CheckpointError: it is damaged, or splits text differently from llama.cpp.
    """
    refuse_git_lfs_pointer(path, CheckpointError)
    model: Any = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError class differs between its implementations
        raise CheckpointError(f"{path}: not a sentencepiece model ({error_text(error)}); copy it again") from None
    # llama.cpp merges pairs by score and does not normalise, as Llama's tokenizer does.
    trainer = model.trainer_spec
    if trainer.model_type != _BPE:
        raise CheckpointError(f"{path}: not a BPE tokenizer as Llama uses it; llama.cpp would split text differently")
    normalizer = model.normalizer_spec
    if normalizer.name != "identity" or normalizer.remove_extra_whitespaces or not normalizer.add_dummy_prefix:
        raise CheckpointError(
            f"{path}: normalises text ('{normalizer.name}'), which Llama's tokenizer does not; train it with "
            "normalization_rule_name='identity', remove_extra_whitespaces=False, add_dummy_prefix=True"
        )
    return Pieces(
        [p.piece for p in model.pieces],
        [p.score for p in model.pieces],
        [int(p.type) for p in model.pieces],
        bos=trainer.bos_id,
        eos=trainer.eos_id,
        unk=trainer.unk_id,
    )


def open_tokenizer_model(path: Path) -> Callable[[str], list[int]]:
    """Return sentencepiece's own way from a text to its ids, without BOS."""
    processor = SentencePieceProcessor(model_file=str(path))
    return lambda text: list(processor.encode(text))
