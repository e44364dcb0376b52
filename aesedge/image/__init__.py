"""Read any photo file as an upright sRGB picture, and prepare the pixels for the vision tower.

    source ─▶ source.py (bytes) ─▶ format.py (which decoder) ─▶ jpeg.py | png.py | tiff.py | pillow.py | raw_and_heic.py
           ─▶ upright_srgb.py (upright, sRGB, no alpha) ─▶ preprocess.py (square, tower's size, normalised)

Before a decoder allocates pixels, its size is checked (size_limits.py) and its estimated peak is compared with the free
memory (memory.py). Damage that a decoder detects comes with the picture as warnings. :func:`read_image` is the first
line, :func:`preprocess` the last arrow.
"""

from aesedge.image.preprocess import preprocess
from aesedge.image.reading import (
    OVERSAMPLING,
    ImageSource,
    full_size_of,
    read_image,
    seen_of,
    warnings_of,
)
from aesedge.image.size_limits import MAX_BYTES, MAX_PIXELS, MAX_SIDE
from aesedge.image.source import name_of
from aesedge.image.upright_srgb import Seen

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "OVERSAMPLING",
    "ImageSource",
    "Seen",
    "full_size_of",
    "name_of",
    "preprocess",
    "read_image",
    "seen_of",
    "warnings_of",
]
