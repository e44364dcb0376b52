"""Decode JPEG with Pillow, at a reduced scale where that is enough, and detect damaged data."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from aesedge.errors import ImageError
from aesedge.image.jpeg_scan import JpegScan, scan_jpeg
from aesedge.image.picture import MAX_LOST, Picture
from aesedge.image.upright_srgb import FULL_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

_EOI = b"\xff\xd9"
_NOT_CODED = bytes((0x5A, 0xC3, 0x96, 0x2D, 0x71, 0xE8, 0x1B, 0xA4)) * 1024
"""Data that no encoder writes. A complete picture decodes to the same pixels with them appended."""
_TAIL = 32
"""The decoder needs these last bytes to complete a picture; if it does not, it has lost synchronisation.

Fewer would not do: encoders may append a few meaningless bytes.
"""
_LOOKAHEAD = 16
"""Bytes after the data that the decoder may read ahead without needing them."""
_FRAMES = {
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
}
_ARITHMETIC = (0xC9, 0xCA)


class _Watched(JpegImageFile):
    """A JPEG whose decoder is stopped before the last bytes of its data, and always gets an end marker."""

    data_end: int | None = None
    """Where the compressed data end; None where the decoder gives pixels only after all of them."""
    is_long = False
    """Whether the last pixels were decoded before the last bytes of the data: the decoder has lost synchronisation."""
    is_short = False
    """Whether the last pixels were not decoded after all data and a few bytes more."""
    n_ended = 0

    def load_prepare(self) -> None:
        """Make room for the pixels, and mark the last ones."""
        super().load_prepare()
        self.readonly = 0
        self._last_pixels = Image.Image.load(self)
        self._set_marks()

    def load_read(self, read_bytes: int) -> bytes:
        """Return the file's next bytes, and an end marker where it ends without one."""
        if self.fp is None:
            return b""
        at, end = self.fp.tell(), self.data_end
        if end is not None:
            if at < end - _TAIL:
                return self.fp.read(min(read_bytes, end - _TAIL - at))
            if at == end - _TAIL:
                self.is_long = not self._has_marks()
                return self.fp.read(_TAIL)
            if at == end and not self.n_ended:
                self.n_ended = 1
                return _NOT_CODED[:_LOOKAHEAD]
            if at == end and self.n_ended == 1:
                self.n_ended = 2
                self.is_short = self._has_marks()
        data = self.fp.read(read_bytes)
        if data or self.n_ended == 3:
            return data
        self.n_ended = 3
        return _EOI

    def _marks(self) -> list[tuple[tuple[int, int], int | tuple[int, ...]]]:
        levels = [(37 * i + 11) % 256 for i in range(min(8, self.width))]
        n = len(self.getbands())
        at = [(self.width - 1 - i, self.height - 1) for i in range(len(levels))]
        return [(place, level if n == 1 else (level,) * n) for place, level in zip(at, levels, strict=True)]

    def _set_marks(self) -> None:
        if self._last_pixels is not None:
            for place, value in self._marks():
                self._last_pixels[place] = value

    def _has_marks(self) -> bool:
        pixels = self._last_pixels
        return pixels is None or all(pixels[place] == value for place, value in self._marks())


def read_jpeg(data: bytes, name: str, enough: int | None, check: Callable[[Image.Image, JpegScan], None]) -> Picture:
    """Decode a JPEG.

    Args:
        data: the file; the first picture counts.
        name: the photo's name, for messages.
        enough: the long side that is enough, None for all pixels.
        check: called with the picture, at its reduced scale, and what the segments tell, before any pixel is decoded.

    Raises:
        ImageError: it is damaged beyond use, or of a kind that is not read here.
    """
    scan = scan_jpeg(data)
    _refuse_what_is_not_read(scan, name)
    if scan.end is None:
        # Zeros: a copy that broke off in a file whose full size was set before. 0xFF: the first half of the marker.
        data = data.rstrip(b"\0").rstrip(b"\xff")
        scan = scan_jpeg(data)
    jpeg = _Jpeg(data, scan, enough)
    check(jpeg.image, scan)
    try:
        jpeg.image.load()
    except OSError:
        if scan.frame in _ARITHMETIC:  # some builds of libjpeg read it
            raise _not_read("n arithmetic-coded", name) from None
        raise
    warnings = _damage(jpeg, scan, name)
    if jpeg.image.icclist and not jpeg.image.info.get("icc_profile"):
        warnings.append("its colour profile is damaged and is ignored")
    return Picture(_cropped(jpeg.image, jpeg.box), warnings=warnings)


def _damage(jpeg: _Jpeg, scan: JpegScan, name: str) -> list[str]:
    """Return warnings about damage; raise an error if too much is missing."""
    warnings = scan.damage()
    if scan.end is None and not scan.is_complete:
        raise _truncated(name, "")
    if scan.end is None or jpeg.image.is_short or jpeg.ends_grey():
        part = jpeg.lost_part()
        if scan.end is None and part > MAX_LOST:
            raise _truncated(name, f": {part:.0%} of the picture are missing at its lower end")
        if part:
            warnings.append(f"the file is damaged: {part:.1%} of the picture are missing at its lower end")
        elif scan.end is None:
            warnings.append("the file lacks its end marker; the picture is complete")
    elif jpeg.image.is_long and not warnings:
        warnings.append("the file is damaged: some compressed data are wrong; parts of the picture may be displaced")
    return warnings


def _truncated(name: str, what: str) -> ImageError:
    return ImageError(f"{name}: the file is truncated{what}; copy or export the photo again")


def _refuse_what_is_not_read(scan: JpegScan, name: str) -> None:
    what = _FRAMES.get(scan.frame)
    if what is None and scan.precision != 8:
        what = f"{scan.precision}-bit"
    if what is None and scan.components and len(scan.components) not in (1, 3, 4):
        what = f"{len(scan.components)}-channel"
    if what is not None:
        raise _not_read(f" {what}", name)


def _not_read(what: str, name: str) -> ImageError:
    return ImageError(f"{name}: is a{what} JPEG, which is not read here; export it as an ordinary JPEG or PNG")


class _Jpeg:
    """A JPEG and the scale at which it is decoded."""

    def __init__(self, data: bytes, scan: JpegScan, enough: int | None) -> None:
        self._data, self._scan, self._enough = data, scan, enough
        self._end = len(data) if scan.end is None else scan.end
        self.image, self.box = self._opened(data)
        if scan.is_sequential and scan.n_scans == 1 and self._end - _TAIL > scan.data_start:
            self.image.data_end = self._end

    def _opened(self, data: bytes) -> tuple[_Watched, tuple[float, float, float, float] | None]:
        """Return the picture that is to be decoded, and which part of the reduced pixels it is."""
        image = _Watched(io.BytesIO(data), "")
        if image.mode == "CMYK" and not self._scan.has_adobe:
            # Pillow takes all CMYK for Adobe's, which is stored inverted.
            image.tile = [tile._replace(args=("CMYK", "")) for tile in image.tile]
        width, height = image.size
        scale = (
            1 if self._enough is None else next((s for s in (8, 4, 2) if max(width, height) // s >= self._enough), 1)
        )
        drafted = image.draft(None, (max(width // scale, 1), max(height // scale, 1))) if scale > 1 else None
        if drafted is None:
            return image, None
        image.info[FULL_SIZE] = (width, height)
        return image, drafted[1]

    def ends_grey(self) -> bool:
        """Return whether the last pixels have libjpeg's filler grey, if missing data can be detected in no other way.

        A photo may end with this grey, too.
        """
        image = self.image
        if image.data_end is not None:
            return False
        corner = image.crop((max(0, image.width - 2), max(0, image.height - 2), *image.size))
        extrema = corner.getextrema()
        ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
        return all(low == high and low in (127, 128) for low, high in ranges)  # 127: 128 of inverted ink

    def lost_part(self) -> float:
        """Return the share of the picture that is missing: its pixels change with what is appended to the data."""
        # Grey or noise where data are missing; the same where they are not.
        pictures = []
        for behind in (b"", _NOT_CODED):
            image, _ = self._opened(self._data[: self._end] + behind + _EOI)
            if image.width * image.height > 2**24 and not image.decoderconfig:
                image.draft(None, (max(image.width // 8, 1), max(image.height // 8, 1)))
            image.load()
            pictures.append(image)
        one, other = pictures
        size = 8 * max((c.down for c in self._scan.components), default=1)
        rows = max(1, round(size * one.height / max(self._scan.height, 1)))  # of the blocks that are coded together
        for y in range(0, one.height, rows):
            box = (0, y, one.width, min(y + rows, one.height))
            differs = np.asarray(one.crop(box)) != np.asarray(other.crop(box))
            if box[3] < one.height and rows > 1:
                differs = differs[:-1]  # chroma is interpolated: the last row takes part in what is below
            columns = np.flatnonzero(differs.reshape(*differs.shape[:2], -1).any(axis=(0, 2)))
            if len(columns):
                n_lost = (one.height - box[3]) * one.width + (box[3] - y) * (one.width - int(columns[0]))
                return max(n_lost / (one.width * one.height), self._scan.restarts_missing)
        return self._scan.restarts_missing


def _cropped(image: Image.Image, box: tuple[float, float, float, float] | None) -> Image.Image:
    """Return the photo alone: the reduced pixels at its right and lower edge are partly beyond it."""
    if box is None or (box[2].is_integer() and box[3].is_integer()):
        return image
    cropped = image.resize(image.size, Image.Resampling.LANCZOS, box=box)
    cropped.info = image.info
    return cropped
