"""Read any photo file as an upright sRGB picture, and prepare the pixels for the vision tower.

    source ─▶ source.py (bytes) ─▶ format.py (which decoder) ─▶ jpeg.py | png.py | tiff.py | pillow.py | extra.py
           ─▶ color.py (upright, sRGB, no alpha) ─▶ preprocess.py (square, tower's size, normalised)

Before a decoder allocates pixels, memory.py compares what it will take with what is free. What a decoder finds out
about damage comes with the picture as remarks.

:func:`read_image` is the first line, :func:`preprocess` the last arrow.
"""

from aesedge.image.preprocess import preprocess
from aesedge.image.reading import MAX_BYTES, MAX_PIXELS, MAX_SIDE, OVERSAMPLING, ImageSource, read_image, remarks_of
from aesedge.image.source import name_of

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "OVERSAMPLING",
    "ImageSource",
    "name_of",
    "preprocess",
    "read_image",
    "remarks_of",
]
