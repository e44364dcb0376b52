"""A TIFF that is not read is refused by name, a damaged one with what is missing."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from image_errors import error_of
from tiff_files import Kind, grown, segments, tiff

from aesedge.errors import AesedgeError
from aesedge.image import read_image, warnings_of


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({258: (3, [5, 6, 5])}, "samples of different numbers of bits (5, 6, 5)"),
        ({339: (3, [1, 1, 3])}, "samples of different sample formats (1, 1, 3)"),
        ({258: (3, [17, 17, 17])}, "unsigned samples of 17 bits"),
        ({258: (3, [64, 64, 64])}, "unsigned samples of 64 bits"),
        ({339: (3, [3, 3, 3])}, "float samples of 8 bits"),
        ({339: (3, [6, 6, 6])}, "complex numbers as samples"),
        ({259: (3, [34712])}, "a compression (JPEG 2000)"),
        ({259: (3, [50002])}, "a compression (JPEG XL)"),
        ({259: (3, [34887])}, "a compression (LERC)"),
        ({259: (3, [4711])}, "a compression (number 4711)"),
        ({262: (3, [32845])}, "LogLuv colours"),
        ({262: (3, [10])}, "ITU Lab colours"),
        ({262: (3, [99])}, "colours of an unknown kind (99)"),
        ({262: (3, [5])}, "3 samples a pixel where its colours need 4"),
        ({259: (3, [8]), 317: (3, [7])}, "an unknown predictor (7)"),
        ({259: (3, [8]), 258: (3, [12] * 3), 317: (3, [2])}, "a predictor for samples of 12 bits"),
        ({262: (3, [6]), 530: (3, [3, 1])}, "YCbCr subsampled by 3x1"),
        ({259: (3, [4])}, "fax compression of more than one bit a pixel"),
        ({259: (3, [7]), 258: (3, [12] * 3)}, "JPEG or WebP compression of 12 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_by_name(tags: dict[int, Any], words: str) -> None:
    message = error_of(tiff(grown(8, 3), Kind(photometric=2), tags=tags))
    assert message == f"bad.jpg: is a TIFF with {words}, which is not read here; export it as JPEG or PNG"


def test_impossible_tiles_are_refused() -> None:
    for size in (0, 2**15, 2**31):
        data = tiff(grown(8, 3), Kind(photometric=2, tile=(16, 16)), tags={322: (4, [size]), 323: (4, [size])})
        assert "its tiles have an impossible size" in error_of(data)


# --- damage


def test_a_missing_strip_is_told_and_many_are_an_error() -> None:
    height = 400
    samples = np.full((height, 20, 3), 200, np.uint32)
    kind = Kind(photometric=2, compression=8, rows_per_strip=4)
    parts = segments(samples, kind)
    parts[50] = b"\0" * len(parts[50])
    image = read_image(tiff(samples, kind, data=parts))
    assert warnings_of(image) == ("the file is damaged: 1 of 100 strips of the picture are missing",)
    assert np.count_nonzero(np.asarray(image)[:, 0, 0] == 200) == height - 4
    for i in range(3):
        parts[i] = b"\0" * len(parts[i])
    assert "4 of its 100 strips are damaged or missing" in error_of(tiff(samples, kind, data=parts))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_cut_file_is_an_error(compression: int, tile: tuple[int, int] | None) -> None:
    data = tiff(grown(16, 3), Kind(bits=16, photometric=2, compression=compression, tile=tile, order=">"))
    (at,) = struct.unpack_from(">I", data, 4)
    moved = data[:4] + struct.pack(">I", 16) + bytes(8) + data[at:]  # the directory alone, its strips beyond the end
    error_of(moved)
    for part in (0.1, 0.5, 0.9):
        error_of(data[: int(at * part)])


def test_damaged_bytes_never_raise_another_error() -> None:
    rng = np.random.default_rng(0)
    for kind in (
        Kind(bits=16, photometric=2, planar=True),
        Kind(photometric=2, compression=5, tile=(16, 16), big=True),
    ):
        data = tiff(grown(kind.bits, 3), kind)
        at = len(data) - 400
        n_errors = 0
        for _ in range(150):
            damaged = np.frombuffer(data, np.uint8).copy()
            damaged[at + rng.integers(0, 400, 3)] = rng.integers(0, 256, 3)
            try:
                read_image(damaged.tobytes(), max_pixels=10**6)
            except AesedgeError:  # any other type fails the test
                n_errors += 1
        assert n_errors
