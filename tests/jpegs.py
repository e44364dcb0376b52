"""JPEGs with the segments that cameras write, made in code."""

from __future__ import annotations

import io
import struct

from PIL import Image

XMP_ID = b"http://ns.adobe.com/xap/1.0/\0"


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def exif(rating: int | None = None, extra: bytes = b"") -> bytes:
    """An Exif segment: a maker, and stars as Windows writes them."""
    entries = [struct.pack("<HHI4s", 0x10F, 2, 4, b"Mkr\0")]
    if rating is not None:
        entries.append(struct.pack("<HHIHH", 0x4746, 3, 1, rating, 0))
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + extra
    return segment(0xE1, b"Exif\0\0" + tiff)


def jpeg(*segments: bytes, behind: bytes = b"") -> bytes:
    """A picture of 16 x 16, with segments behind its JFIF header."""
    file = io.BytesIO()
    Image.effect_noise((16, 16), 40).convert("RGB").save(file, "JPEG")
    data = file.getvalue()
    at = 4 + int.from_bytes(data[4:6], "big")  # behind APP0
    return data[:at] + b"".join(segments) + data[at:] + behind


def xmp(packet: bytes) -> bytes:
    return segment(0xE1, XMP_ID + packet)
