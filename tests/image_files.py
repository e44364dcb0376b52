"""Image files made by hand, byte by byte: ICC profiles, camera RAWs and broken PNGs that no library at hand writes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from collections.abc import Sequence

ORIENTATION = 0x0112
INVERSE = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """Return a smooth picture in which every corner has its own colour."""
    y, x = np.mgrid[0:height, 0:width]
    layers = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) * 255 // (width + height)]
    return Image.fromarray(np.stack(layers, axis=-1).astype(np.uint8))


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a grey PNG of these chunks behind the header."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


UNREADABLE = png_chunk(b"IDAT", b"not compressed")  # whoever checks a size after decoding fails on it


def pixels_and_end(width: int, height: int) -> bytes:
    return png_chunk(b"IDAT", zlib.compress(bytes((width + 1) * height))) + png_chunk(b"IEND", b"")


def swapped_profile() -> bytes:
    """Return the sRGB profile with red and blue exchanged: a picture seen through it has them exchanged too."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (n_tags,) = struct.unpack_from(">I", data, 128)
    entries = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(n_tags)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    data[84:100] = bytes(16)  # the profile's own hash
    return bytes(data)


def _profile(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    illuminant = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    head = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02400000, device, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + illuminant
    return head.ljust(128, b"\0") + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


LINEAR = b"curv" + bytes(8)


def linear_grey_profile() -> bytes:
    """Return a greyscale profile whose values are proportional to light."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(0.9642, 1, 0.8249), b"kTRC": LINEAR})


def linear_rgb_profile() -> bytes:
    """Return a profile with the primaries of sRGB whose values are proportional to light."""
    red, green, blue = _xyz(0.4361, 0.2225, 0.0139), _xyz(0.3851, 0.7169, 0.0971), _xyz(0.1431, 0.0606, 0.7141)
    tags = {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, b"rTRC": LINEAR, b"gTRC": LINEAR, b"bTRC": LINEAR}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {b"wtpt": _xyz(0.9642, 1, 0.8249), **tags})


def red_cyan_profile() -> bytes:
    """Return a CMYK profile of a press whose cyan ink is red; its black is black, its other inks cannot be seen."""
    ramp = bytes(range(256))
    paper, red, black = bytes((255, 128, 128)), bytes((138, 208, 195)), bytes((0, 128, 128))  # Lab, 8 bits
    grid = b"".join(black if node & 1 else red if node & 8 else paper for node in range(16))  # C slowest, K fastest
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


Tag = tuple[int, int, "Sequence[int] | bytes"]
_TYPES = {1: ("B", 1), 2: ("s", 1), 3: ("H", 1), 4: ("I", 1), 5: ("I", 2), 7: ("B", 1), 10: ("i", 2)}


def _directory(tags: list[Tag], offset: int, order: str) -> bytes:
    """Return a TIFF directory that stands at ``offset``, its values behind it."""
    table, body = struct.pack(order + "H", len(tags)), b""
    start = offset + 2 + 12 * len(tags) + 4
    for tag, kind, values in sorted(tags):
        letter, per_value = _TYPES[kind]
        data = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{letter}", *values)
        table += struct.pack(order + "HHI", tag, kind, len(values) // per_value)
        if len(data) > 4:
            table += struct.pack(order + "I", start + len(body))
            body += data + bytes(len(data) % 2)
        else:
            table += data.ljust(4, b"\0")
    return table + bytes(4) + body


def dng(
    mosaic: np.ndarray,
    *,
    neutral: tuple[int, int, int] = (100, 100, 100),
    orientation: int = 1,
    order: str = "<",
    version: bool = True,
    preview: tuple[bytes, tuple[int, int]] | None = None,
) -> bytes:
    """Return a DNG as cameras write it: a thumbnail first, the sensor's data in a sub-directory.

    Args:
        mosaic: uint16 [height, width], white at 4095, pattern RG/GB.
        neutral: what the sensor gives for grey, in hundredths: the camera's white balance.
        orientation: EXIF orientation.
        order: ``<`` or ``>``.
        version: whether it says that it is a DNG; other makes say nothing, and only the sub-directory tells.
        preview: a JPEG with its size, in place of the thumbnail.
    """
    height, width = mosaic.shape
    pixels = mosaic.astype(order + "u2").tobytes()
    thumbnail, (across, down) = preview or (bytes(range(48)), (4, 4))  # RGB, if there is no preview
    thumbnail += bytes(len(thumbnail) % 2)
    compression, photometric = (7, 6) if preview else (1, 2)
    at_thumbnail = 8
    at_pixels = at_thumbnail + len(thumbnail)
    at_raw = at_pixels + len(pixels)
    raw = _directory(
        [
            *((254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]), (262, 3, [32803])),
            *((273, 4, [at_pixels]), (277, 3, [1]), (278, 4, [height]), (279, 4, [len(pixels)])),
            *((33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50714, 3, [0]), (50717, 3, [4095])),
        ],
        at_raw,
        order,
    )
    at_first = at_raw + len(raw)
    # From XYZ to a sensor whose primaries are sRGB's, in 1/10000.
    matrix = [32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570]
    first = _directory(
        [
            *((254, 4, [1]), (256, 4, [across]), (257, 4, [down]), (258, 3, [8, 8, 8])),
            *((259, 3, [compression]), (262, 3, [photometric])),
            *((271, 2, b"Aesedge\0"), (272, 2, b"Test\0"), (273, 4, [at_thumbnail]), (274, 3, [orientation])),
            *((277, 3, [3]), (278, 4, [down]), (279, 4, [len(thumbnail)]), (330, 4, [at_raw])),
            *([(50706, 1, [1, 4, 0, 0])] if version else []),
            (50708, 2, b"Aesedge Test\0"),
            (50721, 10, [part for value in matrix for part in (value, 10000)]),
            (50728, 5, [part for value in neutral for part in (value, 100)]),
            (50778, 3, [21]),  # D65
        ],
        at_first,
        order,
    )
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", at_first)
    return head + thumbnail + pixels + raw + first


def mosaic_of(color: tuple[int, int, int], width: int = 64, height: int = 48) -> np.ndarray:
    """Return the sensor's data for an area of one colour: each pixel sees one channel."""
    red, green, blue = color
    return np.tile(np.array([[red, green], [green, blue]], dtype=np.uint16), (height // 2, width // 2))


def stored(image: Image.Image, orientation: int, format_: str, **options: object) -> bytes:
    """Store a picture turned, with the tag that turns it back."""
    turn = INVERSE[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image if turn is None else image.transpose(turn), format_, exif=exif, **options)
