"""Describe how a photo is preprocessed for the vision tower, as stated in the manifest."""

from __future__ import annotations

from typing import Annotated

import msgspec

Level = Annotated[int, msgspec.Meta(ge=0, le=255)]
Mean = Annotated[float, msgspec.Meta(ge=-10.0, le=10.0)]
Deviation = Annotated[float, msgspec.Meta(ge=0.0, le=10.0)]


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Preprocessing that turns a photo into the tower's pixels: pad to square, resize bicubically, normalise."""

    size: Annotated[int, msgspec.Meta(gt=0, le=2048)]
    """Side of the square that the tower sees, in pixels."""
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    pad_color: tuple[Level, Level, Level]
    """RGB 0..255 of the border that makes a photo square."""
