"""Read the XMP packet and the Exif rating inside a photo, of any format."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from aesedge.errors import XmpError
from aesedge.image.tiff_directory import is_tiff, read_directories
from aesedge.system.error_text import error_text
from aesedge.system.regular_file import open_regular
from aesedge.system.sanitize import sanitize
from aesedge.xmp.jpeg import EXIF_ID, XMP_ID, segments

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.image.tiff_directory import Directory

_XMP_TAG, _RATING_TAG = 700, 0x4746
_APP1 = 0xE1
_BEGIN, _END = b"<x:xmpmeta", b"</x:xmpmeta>"
_WHOLE_BYTES, _PART_BYTES = 2**24, 2**20
"""A file of an unknown layout is searched for a packet as a whole up to this size, else at its beginning and end."""


class Embedded(NamedTuple):
    """What a photo file says of itself."""

    packet: bytes | None
    exif_rating: int | None
    """Windows and some programs write stars there; 0 is none."""


def read_embedded(path: Path) -> Embedded:
    """Return the packet inside a photo, and the stars in its Exif.

    JPEG and TIFF (DNG, and what most cameras' RAW files are) are read by their layout; other files are searched.

    Raises:
        XmpError: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(4)
            file.seek(0)
            if head.startswith(b"\xff\xd8"):
                return _in_jpeg(file)
            if is_tiff(head):
                return _in_tiff(file)
            return Embedded(_searched(file), None)
    except XmpError as error:
        raise XmpError(f"{sanitize(str(path))}: {error}") from None
    except OSError as error:
        raise XmpError(f"{sanitize(str(path))}: cannot be read: {error_text(error)}") from None


def _in_jpeg(file: BinaryIO) -> Embedded:
    packet, rating = None, None
    for segment in segments(file):
        if segment.marker != _APP1:
            continue
        file.seek(segment.start + 4)
        body = file.read(segment.end - segment.start - 4)
        if body.startswith(XMP_ID) and packet is None:
            packet = body[len(XMP_ID) :].rstrip(b"\0")
        elif body.startswith(EXIF_ID):
            rating = _exif_rating(next(read_directories(io.BytesIO(body[len(EXIF_ID) :])), None))
    return Embedded(packet, rating)


def _in_tiff(file: BinaryIO) -> Embedded:
    first = next(read_directories(file), None)
    packet = first.bytes(_XMP_TAG).rstrip(b"\0") if first is not None else b""
    return Embedded(packet or None, _exif_rating(first))


def _exif_rating(directory: Directory | None) -> int | None:
    return directory.integer(_RATING_TAG) if directory is not None and _RATING_TAG in directory else None


def _searched(file: BinaryIO) -> bytes | None:
    n_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    if n_bytes <= _WHOLE_BYTES:
        return _packet_in(file.read())
    found = _packet_in(file.read(_PART_BYTES))
    if found is None:
        file.seek(n_bytes - _PART_BYTES)
        found = _packet_in(file.read())
    return found


def _packet_in(data: bytes) -> bytes | None:
    start = data.find(_BEGIN)
    end = data.find(_END, start)
    return data[start : end + len(_END)] if 0 <= start < end else None
