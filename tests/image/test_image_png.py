"""PNGs keep their pixels whatever stands beside them: large or broken metadata, transparent colours, gamma."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_files import encoded, png_chunk, scene, stored, swapped_profile
from PIL import Image

from aesedge.image import read_image, warnings_of
from aesedge.image.png import MAX_PROFILE_BYTES

XMP = b"<x:xmpmeta>" + b"<rdf:li>xmp.did:0123456789ABCDEF</rdf:li>" * 40_000 + b"</x:xmpmeta>"  # 1.6 MB


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def png_of(samples: np.ndarray, bits: int, color_type: int, *chunks: bytes) -> bytes:
    """Return a PNG of samples [height, width, channels], whatever Pillow can write."""
    height, width, _ = samples.shape
    rows = []
    for row in samples.reshape(height, -1):
        if bits == 16:
            rows.append(b"\0" + row.astype(">u2").tobytes())
        else:
            planes = (row[:, None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
            rows.append(b"\0" + np.packbits(planes.ravel()).tobytes())
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(rows))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels


def packed_text(kind: bytes, key: bytes, text: bytes) -> bytes:
    between = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    return png_chunk(kind, key + between + zlib.compress(text))


LARGE = {
    "plain XMP": [png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)],
    "packed XMP": [packed_text(b"iTXt", b"XML:com.adobe.xmp", XMP)],
    "packed text": [packed_text(b"zTXt", b"parameters", XMP)],
    "70 MB of text": [png_chunk(b"tEXt", b"k\0" + b"a" * 70_000_000)],
    "50 MB, packed": [packed_text(b"zTXt", b"k", bytes(50_000_000)), packed_text(b"iTXt", b"k", bytes(50_000_000))],
    "80 texts of 1 MB": [packed_text(b"zTXt", b"c%d" % i, b"a" * 1_000_000) for i in range(80)],
    "text that is damaged": [png_chunk(b"tEXt", b"k\0abc")[:-4] + b"oops"],
}


@pytest.mark.parametrize("chunks", LARGE.values(), ids=LARGE.keys())
def test_large_text_leaves_the_pixels_alone(chunks: list[bytes]) -> None:
    image = read_image(with_chunks(encoded(scene(), "PNG"), *chunks))
    assert image.tobytes() == scene().tobytes()
    assert warnings_of(image) == ()


def test_a_large_profile_is_used() -> None:
    profile = bytearray(swapped_profile() + os.urandom(1_300_000))
    profile[:4] = struct.pack(">I", len(profile))
    data = with_chunks(encoded(scene(), "PNG"), png_chunk(b"iCCP", b"scanner\0\0" + zlib.compress(bytes(profile))))
    assert np.abs(np.asarray(read_image(data)).astype(int) - np.asarray(scene())[..., ::-1]).max() <= 2


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (zlib.compress(bytes(MAX_PROFILE_BYTES + 1)), "its colour profile is larger than 16 MiB and is ignored"),
        (b"not compressed", "its colour profile is damaged and is ignored"),
        (zlib.compress(b"not a profile"), "its colour profile is damaged and is ignored"),
    ],
)
def test_a_profile_that_cannot_be_used_is_told(content: bytes, remark: str) -> None:
    image = read_image(with_chunks(encoded(scene(), "PNG"), png_chunk(b"iCCP", b"p\0\0" + content)))
    assert image.tobytes() == scene().tobytes()
    assert warnings_of(image) == (remark,)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_stands_in_large_text_too(orientation: int) -> None:
    xmp = XMP + b'<rdf:Description tiff:Orientation="%d"/>' % orientation
    for chunk in (
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        packed_text(b"iTXt", b"XML:com.adobe.xmp", xmp),
    ):
        data = stored(scene(), orientation, "PNG")
        at = data.index(b"eXIf") - 4
        (length,) = struct.unpack_from(">I", data, at)
        without = data[:at] + data[at + 12 + length :]
        assert read_image(with_chunks(without, chunk)).tobytes() == scene().tobytes()


def test_damage_of_the_pixels_is_told() -> None:
    data = bytearray(encoded(scene(), "PNG"))
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    data[at + 8 + length] ^= 1  # its checksum
    image = read_image(bytes(data))
    assert image.tobytes() == scene().tobytes()
    (remark,) = warnings_of(image)
    assert remark == "the file is damaged: 1 of 1 pieces of the picture fail their checksum"


def test_a_damaged_transparency_is_left_out_and_told() -> None:
    chunk = bytearray(png_chunk(b"tRNS", struct.pack(">3H", 0, 0, 0)))
    chunk[-1] ^= 1
    image = read_image(with_chunks(encoded(scene(), "PNG"), bytes(chunk)))
    assert image.tobytes() == scene().tobytes()
    assert "its tRNS chunk fails its checksum" in warnings_of(image)[0]


# --- every depth and colour type


DEPTHS = [(bits, 0) for bits in (1, 2, 4, 8, 16)] + [(bits, kind) for bits in (8, 16) for kind in (2, 4, 6)]


@pytest.mark.parametrize(("bits", "color_type"), DEPTHS)
def test_depth_and_color_type(bits: int, color_type: int) -> None:
    n = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    samples = np.random.default_rng(bits).integers(0, 2**bits, (9, 11, n))
    found = np.asarray(read_image(png_of(samples, bits, color_type))).astype(int)
    levels = samples >> 8 if bits == 16 else np.rint(samples * 255 / (2**bits - 1)).astype(int)
    color = levels if color_type in (0, 2) else levels[..., :-1]
    color = np.repeat(color, 3, axis=2) if color.shape[2] == 1 else color
    alpha = np.ones((9, 11, 1)) if color_type in (0, 2) else levels[..., -1:] / 255
    assert np.abs(found - (color * alpha + 255 * (1 - alpha))).max() <= 1.5


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_grey_is_transparent(bits: int) -> None:
    top = 2**bits - 1
    samples = np.array([[0, top // 2 or 1, top, top // 2 or 1]]).reshape(1, 4, 1)
    found = np.asarray(read_image(png_of(samples, bits, 0, png_chunk(b"tRNS", struct.pack(">H", 0)))))[0, :, 0]
    plain = np.asarray(read_image(png_of(samples, bits, 0)))[0, :, 0]
    assert found.tolist() == [255, *plain[1:].tolist()]


def test_one_color_of_16_bits_is_transparent_and_its_neighbours_are_not() -> None:
    key = (0x0102, 0x0304, 0x0506)
    samples = np.array([[key, (0x0102, 0x0304, 0x0507), (0x0103, 0x0304, 0x0506), (0, 0, 0)]])
    found = np.asarray(read_image(png_of(samples, 16, 2, png_chunk(b"tRNS", struct.pack(">3H", *key)))))
    assert found[0].tolist() == [[255, 255, 255], [1, 3, 5], [1, 3, 5], [0, 0, 0]]


def test_the_picture_that_programs_without_animations_show() -> None:
    first, second = scene(), scene().rotate(180)
    data = encoded(first, "PNG", save_all=True, append_images=[second])
    assert read_image(data).tobytes() == first.tobytes()
    data = encoded(first, "PNG", save_all=True, append_images=[second], default_image=True)
    assert read_image(data).tobytes() == first.tobytes()
    broken = data.replace(b"fcTL", b"fcTX", 1)  # an animation that is damaged, its checksum too
    assert read_image(broken).tobytes() == first.tobytes()


# --- gamma and primaries without a profile

SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
SWAPPED_PRIMARIES = (31270, 32900, 15000, 6000, 30000, 60000, 64000, 33000)  # red is blue


@pytest.mark.parametrize(
    ("gamma", "primaries", "srgb", "expected"),
    [
        (45455, None, False, (200, 50, 20)),
        (45455, SRGB_PRIMARIES, False, (200, 50, 20)),
        (100000, None, False, (229, 122, 79)),  # proportional to light
        (100000, None, True, (200, 50, 20)),
        (45455, SWAPPED_PRIMARIES, False, (20, 50, 200)),
        (0, None, False, (200, 50, 20)),
    ],
)
def test_gamma_and_primaries(gamma: int, primaries: Any, srgb: bool, expected: tuple[int, ...]) -> None:
    chunks = [png_chunk(b"gAMA", struct.pack(">I", gamma))]
    if primaries:
        chunks.append(png_chunk(b"cHRM", struct.pack(">8I", *primaries)))
    if srgb:
        chunks.append(png_chunk(b"sRGB", b"\0"))
    data = with_chunks(encoded(Image.new("RGB", (4, 4), (200, 50, 20)), "PNG"), *chunks)
    assert np.abs(np.asarray(read_image(data))[0, 0].astype(int) - expected).max() <= 3
    grey = with_chunks(encoded(Image.new("L", (4, 4), 128), "PNG"), *chunks)
    wanted = 188 if gamma == 100000 and not srgb else 128
    assert np.abs(np.asarray(read_image(grey)).astype(int) - wanted).max() <= 1
