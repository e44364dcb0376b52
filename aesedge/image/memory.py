"""Estimate the peak memory of decoding a photo, and keep all decoding below a share of the free memory."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aesedge.errors import ImageTooLargeError
from aesedge.image.tiff_layout import DEFLATE, LZMA, NONE, OLD_DEFLATE
from aesedge.image.tiff_segments import BAND_BYTES
from aesedge.system.byte_sizes import size_text
from aesedge.system.machine import available_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from aesedge.image.jpeg_scan import JpegScan
    from aesedge.image.tiff_layout import TiffLayout

PART_OF_FREE = 0.5
"""Decoding a photo may take this part of the free memory at most, all photos that are decoded at once together."""
SMALL_BYTES = 64 * 2**20
"""Estimates below this are not checked: a few phone photos take as much."""

_FIXED_BYTES = 48 * 2**20
"""Memory for converting and resizing strips of a picture, independent of its size."""
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # all other modes: 4
_DECODER_BYTES = {"WEBP": 16, "AVIF": 12, "HEIF": 12, "JPEG2000": 18, "RAW": 20}
"""Bytes per pixel that decoders take beside the picture; measured by ``tests/image/test_image_memory.py``."""


class MemoryBudget:
    """Memory that is free for decoding photos, shared by all threads of the process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reserved = 0

    @contextmanager
    def reserved(self, n_bytes: int, what: str) -> Iterator[None]:
        """Reserve memory for the block; wait for other photos if it does not fit beside them.

        Args:
            n_bytes: peak memory of decoding.
            what: name and size of the photo, for the message.

        Raises:
            ImageTooLargeError: it is more than :data:`PART_OF_FREE` of the free memory.
        """
        with self._condition:
            while n_bytes > SMALL_BYTES:
                limit = int(PART_OF_FREE * available_bytes())
                if self._reserved + n_bytes <= limit:
                    break
                if not self._reserved:
                    raise ImageTooLargeError(
                        f"{what} takes up to {size_text(n_bytes)} to decode, and the limit is {size_text(limit)}, "
                        f"{PART_OF_FREE:.0%} of the free memory; close other programs or export the photo smaller"
                    )
                self._condition.wait(1)
            self._reserved += n_bytes
        try:
            yield
        finally:
            with self._condition:
                self._reserved -= n_bytes
                self._condition.notify_all()


BUDGET = MemoryBudget()


def picture_bytes(width: int, height: int, mode: str, *, format_: str | None, is_turned: bool) -> int:
    """Return what decoding a picture and bringing it to sRGB takes at most.

    Args:
        width: of the pixels that are decoded.
        height: of them too.
        mode: Pillow's, after decoding.
        format_: Pillow's name of the file's format.
        is_turned: whether its orientation may need a second picture.
    """
    per_pixel = _PIXEL_BYTES.get(mode, 4) + _DECODER_BYTES.get(format_ or "", 0)
    if mode != "RGB" or is_turned:
        per_pixel += 4
    return width * height * per_pixel + _FIXED_BYTES


def jpeg_bytes(image: Image.Image, scan: JpegScan) -> int:
    """Return the same for a JPEG that is decoded at this size; several scans keep all coefficients in memory."""
    n_bytes = picture_bytes(*image.size, image.mode, format_="JPEG", is_turned=image.getexif().get(274, 1) != 1)
    if scan.end is None:  # it is decoded twice more, to tell how much is missing
        n_bytes += 8 * image.width * image.height
    if scan.n_scans > 1:
        across = max((c.across for c in scan.components), default=1) or 1
        down = max((c.down for c in scan.components), default=1) or 1
        shares = sum(c.across * c.down for c in scan.components) / (across * down)
        n_bytes += int(2 * scan.width * scan.height * shares)
    return n_bytes


def tiff_bytes(layout: TiffLayout) -> int:
    """Return the same for a TIFF: the picture, its opacity, and the largest piece that is decompressed at once."""
    width, height = layout.segment_size
    columns = layout.segments_across_and_down[0]
    is_whole = layout.tile is not None or layout.compression not in (NONE, DEFLATE, OLD_DEFLATE, LZMA)
    rows = height if is_whole else 1
    piece = max(rows * layout.row_bytes * layout.n_planes * (columns if layout.tile else 1), BAND_BYTES)
    n_stored = 3  # the compressed segment, its bytes, and their copy in the decoder
    samples = 16 * width * columns * layout.n_samples * (height if layout.tile else 1)
    picture = 9 * layout.width * layout.height
    return picture + n_stored * piece + max(samples, 12 * BAND_BYTES) + _FIXED_BYTES
