"""Decode PNG, skipping chunks that would make Pillow refuse the file."""

from __future__ import annotations

import io
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from aesedge.errors import ImageError
from aesedge.image.icc import matrix_profile
from aesedge.image.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES = 2**24
"""A larger decompressed colour profile is ignored: those of scanners and presses have a few MB."""

_FOR_PILLOW = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"
_PIECE = 2**20


@dataclass
class _Chunks:
    """The chunks of a PNG other than its pixels."""

    ranges: list[tuple[int, int]] = field(default_factory=lambda: [(0, len(SIGNATURE))])
    """The parts of the file that Pillow reads: start and length."""
    bits: int = 8
    color_type: int = 2
    info: dict[str | tuple[int, int], Any] = field(default_factory=dict)
    """Profile, XMP and EXIF, as Pillow would call them."""
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    is_srgb: bool = False
    has_key: bool = False
    has_exif: bool = False
    n_pieces: int = 0
    n_damaged: int = 0
    warnings: list[str] = field(default_factory=list)


def read_png(file: BinaryIO, name: str, check: Callable[..., None]) -> Picture:
    """Decode a PNG; of an animation, its default image.

    Args:
        file: its bytes.
        name: the photo's name, for messages.
        check: called with the picture before any pixel is decoded, and with what takes memory beside it.

    Raises:
        ImageError: it has no pixels.
    """
    chunks = _read_chunks(file)
    if not chunks.n_pieces:
        raise ImageError(f"{name}: is a PNG without a picture; copy or export the photo again")
    image = PngImageFile(io.BufferedReader(_FileParts(file, chunks.ranges)), "")
    is_turned = chunks.has_exif or not chunks.info.keys().isdisjoint(("xmp", "Raw profile type exif"))
    has_deep_key = (chunks.bits, chunks.color_type) == (16, 2) and chunks.has_key
    check(image, is_turned=is_turned, has_deep_key=has_deep_key)
    alpha = _deep_key_alpha(file, chunks, image) if has_deep_key else None
    image.load()
    image.info |= chunks.info
    if chunks.bits in (2, 4) and image.mode == "L" and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2**chunks.bits - 1)  # Pillow scales the picture, but not this value
    profile = _profile_without_icc(chunks)
    if profile is not None:
        image.info["icc_profile"] = profile
    if chunks.n_damaged:
        chunks.warnings.append(
            f"the file is damaged: {chunks.n_damaged} of {chunks.n_pieces} pieces of the picture fail their checksum"
        )
    return Picture(image, alpha, warnings=chunks.warnings)


def _read_chunks(file: BinaryIO) -> _Chunks:
    """Walk through the chunks to the end of the picture, checksums included."""
    found = _Chunks()
    at = len(SIGNATURE)
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return found
        length, kind = struct.unpack(">I4s", head)
        if kind in _FOR_PILLOW:
            found.ranges.append((at, length + 12))
        if kind == b"IDAT":
            found.n_pieces += 1
            found.n_damaged += not _is_sound(file, kind, length)
        elif kind == b"IEND" or length > 2**31:
            return found
        else:
            _read_chunk(found, file, kind, length)
        at += length + 12


def _is_sound(file: BinaryIO, kind: bytes, length: int) -> bool:
    """Return whether a chunk's checksum is right; True where the file ends before it."""
    crc = zlib.crc32(kind)
    while length > 0:
        piece = file.read(min(length, _PIECE))
        if not piece:
            return True
        crc = zlib.crc32(piece, crc)
        length -= len(piece)
    stored = file.read(4)
    return len(stored) < 4 or int.from_bytes(stored, "big") == crc


def _read_chunk(found: _Chunks, file: BinaryIO, kind: bytes, length: int) -> None:
    """Take what matters from a chunk that is not pixels; one whose checksum is wrong counts as absent."""
    if kind not in (*_READERS, *_TEXT, b"PLTE"):
        return
    start = file.tell()
    if not _is_sound(file, kind, length):
        if kind in _FOR_PILLOW and kind[0:1].islower():  # Pillow would refuse the file for it
            found.ranges.pop()
        if kind not in _TEXT:
            found.warnings.append(f"the file is damaged: its {kind.decode()} chunk fails its checksum and is ignored")
        return
    file.seek(start)
    data = file.read(min(length, 4 * MAX_PROFILE_BYTES))
    if kind in _TEXT:
        _read_text(found, kind, data)
    elif kind in _READERS:
        with suppress(struct.error, IndexError):  # a chunk that is too short
            _READERS[kind](found, data)


def _read_header(found: _Chunks, data: bytes) -> None:
    found.bits, found.color_type = data[8], data[9]


def _read_key(found: _Chunks, _: bytes) -> None:
    found.has_key = True


def _read_exif(found: _Chunks, _: bytes) -> None:
    found.has_exif = True


def _read_gamma(found: _Chunks, data: bytes) -> None:
    found.gamma = struct.unpack_from(">I", data)[0] / 100_000


def _read_chromaticities(found: _Chunks, data: bytes) -> None:
    found.chromaticities = tuple(value / 100_000 for value in struct.unpack_from(">8I", data))


def _read_srgb(found: _Chunks, _: bytes) -> None:
    found.is_srgb = True


def _read_profile(found: _Chunks, data: bytes) -> None:
    profile = _unpacked(data.partition(b"\0")[2][1:])
    if profile is None:
        found.warnings.append("its colour profile is damaged and is ignored")
    elif len(profile) > MAX_PROFILE_BYTES:
        found.warnings.append(f"its colour profile is larger than {MAX_PROFILE_BYTES // 2**20} MiB and is ignored")
    else:
        found.info["icc_profile"] = profile


_READERS: dict[bytes, Callable[[_Chunks, bytes], None]] = {
    b"IHDR": _read_header,
    b"tRNS": _read_key,
    b"eXIf": _read_exif,
    b"gAMA": _read_gamma,
    b"cHRM": _read_chromaticities,
    b"sRGB": _read_srgb,
    b"iCCP": _read_profile,
}


def _unpacked(data: bytes) -> bytes | None:
    """Return what was compressed, at most one byte more than a profile may have; None if it is damaged."""
    try:
        unpacked = zlib.decompressobj().decompress(data, MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return unpacked or None


def _read_text(found: _Chunks, kind: bytes, data: bytes) -> None:
    """Take EXIF and XMP from text, if the orientation may stand in it; no other text matters."""
    key, _, text = data.partition(b"\0")
    if key not in {_XMP, _RAW_EXIF}:
        return
    if kind == b"zTXt":
        text = _unpacked(text[1:]) or b""
    elif kind == b"iTXt":
        is_packed = text[:1] == b"\1"
        text = (text[2:].split(b"\0", 2) or [b""])[-1]
        text = (_unpacked(text) or b"") if is_packed else text
    if key == _RAW_EXIF:
        found.info["Raw profile type exif"] = text.decode("latin-1")
    elif orientation := re.search(rb'tiff:Orientation(="|>)([0-9])', text):
        found.info["xmp"] = orientation.group(0)


def _profile_without_icc(chunks: _Chunks) -> bytes | None:
    """Return a profile of the file's gamma and primaries, if these say that it is not sRGB."""
    if "icc_profile" in chunks.info or chunks.is_srgb or not chunks.gamma or not 0.1 <= chunks.gamma <= 10:
        return None
    if not chunks.color_type & 2:
        chunks.chromaticities = None
    return matrix_profile(1 / chunks.gamma, chunks.chromaticities, grey=not chunks.color_type & 2)


def _deep_key_alpha(file: BinaryIO, chunks: _Chunks, image: Image.Image) -> Image.Image | None:
    """Return the opacity of a 16-bit RGB picture in which one colour is transparent.

    Pillow keeps the upper 8 bits, where the colour may be that of many pixels: the lower ones are decoded for it too.
    """
    key = image.info.pop("transparency", None)
    if not isinstance(key, tuple):
        return None
    equal = np.ones((image.height, image.width), bool)
    for rawmode, shift in (("RGB;16B", 8), ("RGB;16L", 0)):
        half = PngImageFile(io.BufferedReader(_FileParts(file, chunks.ranges)), "")
        half.tile = [tile._replace(args=rawmode) for tile in half.tile]
        half.load()
        for i, value in enumerate(key):
            equal &= np.asarray(half.getchannel(i)) == (value >> shift & 255)
    return Image.fromarray(np.where(equal, 0, 255).astype(np.uint8))


class _FileParts(io.RawIOBase):
    """Parts of a file, one after the other, as if they were a file."""

    def __init__(self, file: BinaryIO, ranges: list[tuple[int, int]]) -> None:
        self._file = file
        self._ranges = ranges
        self._starts = np.cumsum([0, *(length for _, length in ranges)])
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: int(self._starts[-1])}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer with what comes next, as far as one part reaches."""
        i = int(np.searchsorted(self._starts, self._at, side="right")) - 1
        if i >= len(self._ranges):
            return 0
        start, length = self._ranges[i]
        inside = self._at - int(self._starts[i])
        self._file.seek(start + inside)
        view = memoryview(buffer)
        data = self._file.read(min(len(view), length - inside))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
