"""What an export was asked for, checked before any work is done; knows options, not tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentencepiece import SentencePieceProcessor

from aesedge.errors import UsageError
from aesedge.manifest import NAME_PATTERN
from aesedge.rating import label_tokens

from .quantizer import parse_type

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from aesedge.manifest import PromptSpec, RatingSpec

    from .checkpoint import Checkpoint

DEFAULT_GGUF_TYPES = ("F16", "Q8_0", "Q4_K_M")
VISION_TYPES = ("fp32",)


@dataclass(frozen=True)
class Plan:
    """What was asked for, checked."""

    name: str
    gguf_types: list[str]
    default_gguf: str
    license: str
    prompt: PromptSpec
    rating: RatingSpec
    photos: list[tuple[str, Image.Image]]
    """Names and RGB pictures."""
    card: Path | None
    parity: bool


def checked_name(name: str) -> str:
    """Return a bundle's name.

    Raises:
        UsageError: it has characters that a bundle's name cannot have.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"{name!r} is not a bundle name: letters, digits, '.', '_' and '-', beginning with a letter")
    return name


def check_vision_types(types: Sequence[str]) -> None:
    """See that every precision of the vision graph is one that export makes.

    Raises:
        UsageError: one is not, or there is none.
    """
    for asked in types:
        if asked not in VISION_TYPES:
            raise UsageError(f"unknown vision precision {asked!r}; there are {', '.join(VISION_TYPES)}")
    if not types:
        raise UsageError("no vision precision is asked for; a bundle needs one")


def default_type(types: Sequence[str], asked: str | None) -> str:
    """Return the quantization type that is loaded when none is asked for: the one asked, else Q4_K_M, else the first.

    Raises:
        UsageError: it is not among the types to export.
    """
    if not types:
        raise UsageError("no quantization type is asked for; a bundle needs one")
    if asked is None:
        return "Q4_K_M" if "Q4_K_M" in types else types[0]
    chosen = parse_type(asked)
    if chosen not in types:
        raise UsageError(f"default type {chosen} is not among the types to export: {', '.join(types)}")
    return chosen


def checked_card(card: Path | None) -> Path | None:
    """Return the model card's path.

    Raises:
        UsageError: there is no such file.
    """
    if card is not None and not card.is_file():
        raise UsageError(f"{card}: no such model card; give a Markdown file")
    return card


def check_labels(source: Checkpoint, rating: RatingSpec) -> None:
    """See before the long work that the labels can be told apart in this vocabulary, as the runtime will want it.

    Raises:
        BundleFormatError: two answers begin with the same tokens.
    """
    tokenizer = SentencePieceProcessor(model_file=str(source.folder / "tokenizer.model"))
    label_tokens(rating.labels, rating.weights, tokenizer.encode)
