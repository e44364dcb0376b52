"""Check what an export was asked for before any work is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.bundle.manifest import NAME_PATTERN, ImageTokens
from aesedge.engine.rating import label_tokens
from aesedge.errors import UsageError

from .language.tensor_types import parse_type
from .vision.reduction import LEAST, NONE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from aesedge.bundle.manifest import PromptSpec, RatingSpec

    from .checkpoint.checkpoint import Checkpoint

DEFAULT_GGUF = "q8_0,q4_k_m"
DEFAULT_VISION = "fp32,int8"
"""As they are typed."""


BYTES_PER_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}
"""Precision to the bytes that a weight takes in it."""


def listed(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


@dataclass(frozen=True)
class ExportPlan:
    """What was asked for, checked."""

    name: str
    gguf_types: list[str]
    default_gguf: str
    vision_types: list[str]
    license: str
    prompt: PromptSpec
    rating: RatingSpec
    photos: list[tuple[str, Image.Image]]
    """Names and RGB pictures."""
    calibration: list[tuple[str, Image.Image]]
    """Names and RGB pictures that the importance of inputs is measured on; none does without."""
    card: Path | None
    parity: bool
    """Whether the bundle is compared with PyTorch."""
    reduction: str
    """How image tokens are reduced, where there are enough of them."""


def checked_name(name: str) -> str:
    """Return a bundle's name.

    Raises:
        UsageError: it has characters that a bundle's name cannot have.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"{name!r} is not a bundle name: letters, digits, '.', '_' and '-', beginning with a letter")
    return name


def checked_precisions(asked: Sequence[str]) -> list[str]:
    """Return vision precisions, each once.

    Raises:
        UsageError: one is unknown, or there is none.
    """
    found = list(dict.fromkeys(precision.strip().lower() for precision in asked))
    for precision in found:
        if precision not in BYTES_PER_WEIGHT:
            raise UsageError(f"unknown vision precision {precision!r}; there are {', '.join(BYTES_PER_WEIGHT)}")
    if not found:
        raise UsageError("no vision precision is asked for; a bundle needs one")
    return found


def image_token_range(n_image_tokens: int, reduction: str) -> ImageTokens:
    """Return how many image tokens a bundle may be run with; where there are few, all of them are always taken."""
    if reduction == NONE or n_image_tokens <= LEAST:
        return ImageTokens(min=n_image_tokens, max=n_image_tokens, method=NONE)
    return ImageTokens(min=LEAST, max=n_image_tokens, method=reduction)


def default_precision(asked: Sequence[str]) -> str:
    """Return what is loaded where no precision is asked for: int8, the fast one on CPUs, else fp32, else fp16."""
    return next(precision for precision in ("int8", "fp32", "fp16") if precision in asked)


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
    label_tokens(rating.labels, rating.weights, source.encode)
