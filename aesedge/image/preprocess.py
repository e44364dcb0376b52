"""Turn a picture into the vision tower's pixels: pad to a square, resize, normalise, in LLaVA's order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aesedge.errors import ImageError, UsageError
from aesedge.image.upright_srgb import FULL_SIZE

if TYPE_CHECKING:
    import numpy.typing as npt

    from aesedge.image.image_spec import ImageSpec

_STRIP_ROWS = 256


def preprocess(image: Image.Image, spec: ImageSpec) -> npt.NDArray[np.float32]:
    """Turn an RGB picture into the tower's input.

    Pads to a square with ``spec.pad_color``, the picture in the middle, then resizes bicubically (Pillow, antialiased),
    divides by 255 and normalises: equal to LLaVA's ``expand2square`` followed by transformers' CLIPImageProcessor.

    Returns:
        Pixel values, float32 [1, 3, spec.size, spec.size].
    """
    if image.mode != "RGB":
        raise UsageError(f"preprocess takes an RGB image, not mode {image.mode}; read_image gives one")
    if 0 in image.size:
        raise ImageError(f"an image of {image.width}x{image.height} has no pixels")
    square = np.asarray(_square(image, spec))  # uint8 [size, size, 3]
    pixel_values = np.empty((1, 3, spec.size, spec.size), dtype=np.float32)
    for channel in range(3):  # NumPy is six times as slow along an axis of three
        plane = pixel_values[0, channel]
        plane[...] = square[..., channel]
        plane /= np.float32(255)
        plane -= np.float32(spec.mean[channel])
        plane /= np.float32(spec.std[channel])
    return pixel_values


def _square(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Pad and resize to [size, size].

    Bit for bit what padding first and resizing then gives, because Pillow too resizes rows, rounds, then columns; but
    the square of the long side is never in memory, which for a tall panorama would be gigabytes.
    """
    full_width, full_height = _full_size(image)
    side = max(full_width, full_height)
    x, n_columns, across = _place((side - full_width) // 2, side, image.width / full_width)
    y, n_rows, down = _place((side - full_height) // 2, side, image.height / full_height)
    narrowed = Image.new("RGB", (spec.size, n_rows), spec.pad_color)
    has_border = n_columns != image.width
    most_rows = _STRIP_ROWS if has_border else image.height
    for first in range(0, image.height, most_rows):
        height, strip = min(most_rows, image.height - first), image
        if has_border:
            strip = Image.new("RGB", (n_columns, height), spec.pad_color)
            strip.paste(image.crop((0, first, image.width, first + height)), (x, 0))
        columns = (across[0], 0, across[1], height)
        narrowed.paste(strip.resize((spec.size, height), Image.Resampling.BICUBIC, box=columns), (0, y + first))
    rows = (0, down[0], spec.size, down[1])
    return narrowed.resize((spec.size, spec.size), Image.Resampling.BICUBIC, box=rows)


def _full_size(image: Image.Image) -> tuple[int, int]:
    """Return the size that decides on the border: the photo's own, where the picture is a reduced copy of it.

    At a reduced scale, whole pixels of border would shift the photo by up to half a pixel of the tower.
    """
    full: tuple[int, int] = image.info.get(FULL_SIZE, image.size)
    is_copy = abs(image.width * full[1] - image.height * full[0]) <= max(full)  # else it was cropped since
    return full if is_copy else image.size


def _place(border: int, side: int, scale: float) -> tuple[int, int, tuple[float, float]]:
    """Return, along one axis, where to paste the picture, on how many pixels, and which part of them is the square."""
    paste_at = math.ceil(border * scale)
    start = paste_at - border * scale
    n_pixels = math.ceil(start + side * scale)
    return paste_at, n_pixels, (start, min(start + side * scale, n_pixels))
