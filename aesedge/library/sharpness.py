"""Measure how sharp the sharpest parts of a photo are, at more than a vision tower's resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aesedge.image import read_image

if TYPE_CHECKING:
    from PIL import Image

SIDE = 1920
"""Least long side at which photos are compared, where they have it: what a tower reads does not show missed focus."""
_TILES = 8
_SHARPEST = 6


def sharpness_of(path: str) -> float:
    """Return the sharpness of a photo's sharpest parts; it compares photos of one scene, and no others.

    Raises:
        ImageError: the photo cannot be read.
    """
    return sharpness(read_image(path, size_hint=SIDE // 2))


def sharpness(image: Image.Image) -> float:
    """Return the root of the mean squared gradient of the six sharpest of 8 x 8 tiles, relative to the brightness.

    The brightness divides it, because frames of a burst may be exposed a little differently.
    """
    levels = np.asarray(image.convert("L"), np.float32)
    squared = np.diff(levels, axis=1)[:-1] ** 2 + np.diff(levels, axis=0)[:, :-1] ** 2
    if not squared.size:
        return 0.0
    tiles = [tile.mean() for rows in np.array_split(squared, _TILES) for tile in np.array_split(rows, _TILES, axis=1)]
    strongest = np.sort(np.nan_to_num(tiles))[-_SHARPEST:]
    return float(np.sqrt(strongest.mean()) / (levels.mean() + 1))
