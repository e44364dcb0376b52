"""Describe how a photo is preprocessed for the vision tower, as stated in the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Annotated[int, msgspec.Meta(ge=0, le=255)]
Mean = Annotated[float, msgspec.Meta(ge=-10.0, le=10.0)]
Deviation = Annotated[float, msgspec.Meta(ge=0.0, le=10.0)]


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Preprocessing that turns a photo into the tower's pixels: pad to square, resize bicubically, normalise."""

    size: Annotated[int, msgspec.Meta(gt=0, le=2048)]
    """Side of the tower's square input, in pixels."""
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    pad_color: tuple[Level, Level, Level]
    """RGB 0..255 of the border that makes a photo square."""


def llava_spec(size: int, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> ImageSpec:
    """Return LLaVA-1.5's preprocessing: the border has the mean colour, rounded down (llava/mm_utils.py).

    Args:
        size: side of the tower's square input, in pixels.
        mean: of each channel, 0..1.
        std: of each channel.
    """
    (r, g, b), (r_std, g_std, b_std) = mean, std
    color = int(r * 255), int(g * 255), int(b * 255)
    return ImageSpec(size=size, mean=(r, g, b), std=(r_std, g_std, b_std), pad_color=color)
