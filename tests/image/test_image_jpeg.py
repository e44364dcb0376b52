"""JPEGs of every kind are read rightly or refused by name, and what can be told of their damage is told."""

from __future__ import annotations

import ctypes
import random
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_errors import error_of
from image_files import encoded, linear_rgb_profile, scene
from PIL import Image, ImageChops

from aesedge.errors import ImageError
from aesedge.image import read_image, warnings_of
from aesedge.image.jpeg_scan import scan_jpeg
from aesedge.samples import SAMPLE_PHOTOS

NO_END = "the file lacks its end marker; the picture is complete"
PHOTO = Image.open(SAMPLE_PHOTOS[0]).convert("RGB").resize((480, 320))
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "full chroma": {"subsampling": 0},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "restarts of rows": {"restart_marker_rows": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 2},
}


def jpeg(image: Image.Image = PHOTO, **options: Any) -> bytes:
    return encoded(image, "JPEG", quality=85, **options)


def without_segment(data: bytes, marker: int) -> bytes:
    at = data.index(bytes((0xFF, marker)))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def adobe(transform: int) -> bytes:
    return struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, transform)


def colors(data: bytes, **options: Any) -> np.ndarray:
    return np.asarray(read_image(data, **options)).astype(int)


# --- kinds of colours


@pytest.mark.parametrize("size_hint", [None, 56])
def test_cmyk_with_and_without_adobe_s_marker(size_hint: int | None) -> None:
    inks = scene(400, 300).convert("CMYK")
    with_marker = encoded(inks, "JPEG", quality=95)
    expected = colors(with_marker, size_hint=size_hint)
    assert np.abs(expected[:, :, 0].mean() - np.asarray(scene(400, 300))[..., 0].mean()) < 4
    # Adobe stores ink inverted and says so by its marker; without it 0 is no ink.
    plain = encoded(Image.frombytes("CMYK", inks.size, bytes(255 - b for b in inks.tobytes())), "JPEG", quality=95)
    without = without_segment(plain, 0xEE)
    assert np.abs(colors(without, size_hint=size_hint) - expected).max() <= 3
    assert np.abs(colors(without_segment(with_marker, 0xEE)) - colors(plain)).max() <= 3


def test_ycck() -> None:
    rgb = scene(64, 48)
    ycc = np.asarray(ImageChops.invert(rgb).convert("YCbCr"))  # of ink; Adobe's K is inverted, 255 is none
    planes = np.concatenate([ycc, np.full((48, 64, 1), 255, np.uint8)], axis=2)
    raw = encoded(Image.frombytes("CMYK", (64, 48), (255 - planes).tobytes()), "JPEG", quality=98)
    at = raw.index(b"\xff\xee")
    ycck = raw[:at] + adobe(2) + raw[at + 16 :]
    assert np.abs(colors(ycck) - np.asarray(rgb).astype(int)).max() <= 8


@pytest.mark.parametrize("transform", [0, 1])
def test_adobe_s_marker_says_whether_three_channels_are_rgb(transform: int) -> None:
    image = scene(64, 48)
    data = encoded(image, "JPEG", quality=98, subsampling=0, keep_rgb=transform == 0)
    data = data if transform == 0 else data[:2] + adobe(1) + without_segment(data, 0xE0)[2:]
    assert np.abs(colors(data) - np.asarray(image).astype(int)).max() <= 6


def test_grey_with_the_profile_of_colours_and_a_profile_that_does_not_fit() -> None:
    image = read_image(encoded(Image.new("L", (8, 8), 128), "JPEG", icc_profile=linear_rgb_profile()))
    assert np.abs(np.asarray(image).astype(int) - 188).max() <= 1
    assert warnings_of(image) == ()
    data = encoded(Image.new("CMYK", (8, 8)), "JPEG", icc_profile=linear_rgb_profile())
    assert warnings_of(read_image(data)) == ("its colour profile is for RGB colours, not for its own, and is ignored",)


@pytest.mark.parametrize(
    ("marker", "precision", "n_components", "words"),
    [
        (0xC1, 12, 3, "a 12-bit JPEG"),
        (0xC0, 8, 2, "a 2-channel JPEG"),
        (0xC3, 8, 3, "a lossless JPEG"),
        (0xC3, 16, 1, "a lossless JPEG"),
        (0xCB, 8, 3, "a lossless JPEG"),
        (0xC5, 8, 3, "a hierarchical JPEG"),
    ],
)
def test_refused_by_name(marker: int, precision: int, n_components: int, words: str) -> None:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4], data[at + 9] = marker, precision, n_components
    message = error_of(bytes(data))
    assert message == f"bad.jpg: is {words}, which is not read here; export it as an ordinary JPEG or PNG"


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_and_deep_jpegs_of_an_encoder_are_refused_by_name(bits: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    samples = (np.asarray(scene(64, 48).convert("L")).astype(np.uint16) << (bits - 8)).astype(
        f"u{1 if bits == 8 else 2}"
    )
    data = imagecodecs.ljpeg_encode(samples, bitspersample=bits)
    assert "is a lossless JPEG" in error_of(bytes(data))


# --- sound files have no warnings


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_a_sound_file_is_not_remarked_on(options: dict[str, Any]) -> None:
    bordered = {level: Image.new("RGB", (200, 160), (level,) * 3) for level in (0, 127, 128, 255)}
    for canvas in bordered.values():
        canvas.paste(PHOTO.resize((200, 100)), (0, 30))
    grey = Image.new("RGB", (99, 77), (128, 128, 128))
    for image in (PHOTO, PHOTO.convert("L"), PHOTO.convert("CMYK"), PHOTO.crop((0, 0, 7, 5)), grey, *bordered.values()):
        data = jpeg(image, **options)
        for tail in (b"", b"\0" * 500, b"PK\x03\x04" + bytes(50), data):
            for size_hint in (None, 28):
                assert warnings_of(read_image(data + tail, size_hint=size_hint)) == ()


def test_sound_photographs_are_not_remarked_on() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "clive" / "images"
    photos = [*SAMPLE_PHOTOS, *sorted(folder.glob("*"))[::10]]
    assert {path.name: warnings for path in photos if (warnings := warnings_of(read_image(path)))} == {}


# --- damage


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("size_hint", [None, 56])
def test_without_its_end_marker_a_picture_is_read(options: dict[str, Any], size_hint: int | None) -> None:
    data = jpeg(**options)
    whole = read_image(data, size_hint=size_hint)
    for cut in (data[:-2], data[:-1], data[:-2] + bytes(1000)):
        image = read_image(cut, size_hint=size_hint)
        assert image.tobytes() == whole.tobytes()
        assert warnings_of(image) == (NO_END,)


def missing_part(text: str) -> float:
    """Return what a message says is missing, 0..1."""
    found = re.search(r"([0-9.]+)% of the picture are missing at its lower end", text)
    assert found, text
    return float(found[1]) / 100


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("part", [0.4, 0.7, 0.9])
def test_a_cut_file_is_an_error_that_says_how_much_is_missing(options: dict[str, Any], part: float) -> None:
    data = jpeg(**options)
    cut = data[: int(len(data) * part)].rstrip(b"\xff")
    for end in (b"", bytes(3000)):
        message = error_of(cut + end)
        assert "the file is truncated" in message
        if "progressive" not in options:
            lost = (colors(cut + b"\xff\xd9") != colors(data)).any(axis=2).mean()
            assert abs(missing_part(message) - lost) < 0.02


def test_a_few_missing_bytes_are_a_remark() -> None:
    with Image.open(SAMPLE_PHOTOS[0]) as image:
        data = jpeg(image.convert("RGB"))
    for n in (3, 5, 20):
        (remark,) = warnings_of(read_image(data[:-n]))
        assert remark == NO_END or missing_part(remark) < 0.02
    assert "truncated" in error_of(data[: -len(data) // 10])


@pytest.mark.parametrize("size_hint", [None, 56])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_lower_part_that_is_missing_before_the_end_marker(part: float, size_hint: int | None) -> None:
    data = jpeg()
    start = scan_jpeg(data).data_start
    cut = data[: start + int((len(data) - start) * part)].rstrip(b"\xff") + b"\xff\xd9"
    lost = (colors(cut) != colors(data)).any(axis=2).mean()
    (remark,) = warnings_of(read_image(cut, size_hint=size_hint))
    assert abs(missing_part(remark) - lost) < 0.03


def test_lost_restart_markers_are_told() -> None:
    data = jpeg(restart_marker_blocks=3)
    start = scan_jpeg(data).data_start
    first = data.index(b"\xff\xd3", start)
    second = data.index(b"\xff\xd5", first)
    damaged = [data[:first] + data[second:], data[:first] + b"\x12\x34" + data[first + 2 :]]
    damaged.append(data[: first + 1] + b"\xd6" + data[first + 2 :])  # out of order
    for one in damaged:
        assert "restart markers are missing or wrong" in " ".join(warnings_of(read_image(one)))


@pytest.mark.parametrize("n_bytes", [256, 4096])
def test_overwritten_data_are_told(n_bytes: int) -> None:
    data = jpeg()
    scan = scan_jpeg(data)
    assert scan.end is not None
    for at in range(scan.data_start + 100, scan.end - n_bytes - 100, 1500):
        (remark, *_) = warnings_of(read_image(data[:at] + bytes(n_bytes) + data[at + n_bytes :]))
        assert "overwritten" in remark


def test_a_missing_scan_is_told() -> None:
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    table = data.rindex(b"\xff\xc4", 0, last)
    (remark, *_) = warnings_of(read_image(data[:table] + b"\xff\xd9"))
    assert "scans of the picture are missing" in remark


def test_most_lost_bytes_are_told() -> None:
    rng = random.Random(0)
    data = jpeg()
    scan = scan_jpeg(data)
    assert scan.end is not None
    n_told = 0
    for _ in range(40):
        at = rng.randrange(scan.data_start, scan.end - 300)
        try:
            n_told += bool(warnings_of(read_image(data[:at] + data[at + 200 :])))
        except ImageError:
            n_told += 1
    assert n_told >= 25


def test_scanning_raises_nothing() -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(jpeg(progressive=True), np.uint8)
    for _ in range(300):
        damaged = whole.copy()
        damaged[rng.integers(0, 700, 6)] = rng.integers(0, 256, 6)
        scan_jpeg(damaged.tobytes()[: rng.integers(2, len(whole))])
    for data in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xda", b"\xff\xd8\xff\xc0\0\2\xff\xda\0\2"):
        scan_jpeg(data)


class Heap(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = (("sizes", ctypes.c_size_t * 10),)

    @property
    def n_used(self) -> int:
        return int(self.sizes[7])


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone counts its memory")
def test_scans_of_many_jpegs_leave_no_memory_behind() -> None:
    """numpy keeps small arrays that were freed, seven of each size; each photo has another number of markers."""
    heap = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if heap is None:
        pytest.skip("no mallinfo2: another libc, or an old glibc")
    heap.restype = Heap
    scan_jpeg(b"\xff\xd8" + bytes((0xFF, 0)) * 2000)
    before = heap().n_used
    for n in range(200, 900):
        scan_jpeg(b"\xff\xd8" + bytes((0xFF, 0)) * n)
    assert heap().n_used - before < 500_000  # 1.6 MB
