"""Collect what a parity proof needs: photos, the manifest's questions, the files of one bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aesedge.llm.prompt import prompt_template

from .forced import read_prompts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL import Image

    from aesedge.bundle.manifest import PromptSpec, RatingSpec
    from aesedge.image.image_spec import ImageSpec

    from .forced import Prompts
    from .gguf_runtime import GgufRuntime

OnProgress = Callable[[str, float], None]
"""Called with the name of a step and the share of it that is done, 0..1."""


@dataclass(frozen=True)
class Inputs:
    """Photos, preprocessing and questions that a bundle is proven on."""

    photos: Sequence[tuple[str, Image.Image]]
    """Name and RGB image, one at least."""
    image: ImageSpec
    prompt: PromptSpec
    rating: RatingSpec


@dataclass(frozen=True)
class BundleFiles:
    """The files of one bundle that are proven."""

    llm: Mapping[str, Path]
    """Quantization type to GGUF file."""
    vision: Mapping[str, Path]
    """Precision to vision graph."""
    without_importance: Mapping[str, Path] = field(default_factory=dict)
    """Quantization type to the file made without an importance matrix, for comparison."""


def part_of(report: OnProgress, step: str) -> Callable[[float], None]:
    """Report that a step begins, and return a callback for its share."""
    report(step, 0.0)
    return lambda share: report(step, share)


def prompts_of(runtime: GgufRuntime, inputs: Inputs) -> Prompts:
    """Return the manifest's questions in the tokens of one GGUF file."""
    template = prompt_template(inputs.prompt.template)
    return read_prompts(template, inputs.prompt.critique, inputs.rating, runtime.model.bos, runtime.model.tokenize)
