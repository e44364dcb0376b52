"""Every kind of TIFF is read rightly, which a second decoder confirms."""

from __future__ import annotations

import io
import itertools
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from image_errors import error_of
from image_files import encoded, linear_rgb_profile, scene
from PIL import Image
from tiff_files import (
    HEIGHT,
    LIGHT,
    WIDTH,
    Kind,
    directory,
    grey,
    grown,
    levels,
    read,
    second_decoder,
    segments,
    tiff,
)

from aesedge.image import read_image, warnings_of

# --- how samples are stored: the same picture, whatever the way

STORAGE = [
    Kind(bits=bits, photometric=1 if n == 1 else 2, planar=planar, tile=tile, compression=compression, order=order)
    for bits, n, planar, tile, compression, order in itertools.product(
        (8, 16, 32), (1, 3), (False, True), (None, (16, 16)), (1, 5, 8, 32773), "<>"
    )
    if n == 3 or not planar
]


def called(kind: Kind) -> str:
    changed = [f"{key}={value}" for key, value in vars(kind).items() if value != getattr(Kind(), key)]
    return ",".join(changed) or "plain"


@pytest.mark.parametrize("kind", STORAGE, ids=called)
def test_storage(kind: Kind) -> None:
    n = 1 if kind.photometric == 1 else 3
    samples = grown(kind.bits, n)
    data = tiff(samples, kind)
    assert np.array_equal(second_decoder(data, kind.planar), samples)
    expected = levels(samples, kind.bits)
    assert np.array_equal(read(data), grey(expected) if n == 1 else expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("tile", [None, (16, 32)], ids=["strips", "tiles"])
@pytest.mark.parametrize("planar", [False, True], ids=["chunky", "planar"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_predictor(bits: int, planar: bool, tile: tuple[int, int] | None, n: int, order: str) -> None:
    samples = grown(bits, n).astype(f"u{bits // 8}")
    kind = Kind(bits=bits, photometric=2 if n == 3 else 1, compression=8, planar=planar and n == 3, tile=tile)
    data = tiff(samples, replace(kind, predictor=2, order=order))
    expected = levels(samples, bits)
    assert np.array_equal(read(data), grey(expected) if n == 1 else expected)


@pytest.mark.parametrize("compression", [1, 5, 8], ids=["raw", "lzw", "deflate"])
@pytest.mark.parametrize("photometric", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 32])
def test_bits(bits: int, photometric: int, compression: int) -> None:
    samples = grown(bits, 3 if photometric == 2 else 1)
    expected = levels(samples, bits)
    if photometric == 0:
        samples = 2**bits - 1 - samples
        expected = 255 - levels(samples, bits)
    for order in "<>":
        data = tiff(samples, Kind(bits=bits, photometric=photometric, compression=compression, order=order))
        assert np.array_equal(read(data), expected if photometric == 2 else grey(expected))


@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("reversed_bits", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_bit_order_and_bigtiff(bits: int, reversed_bits: bool, big: bool) -> None:
    samples = grown(bits, 1)
    for compression, order in itertools.product((1, 5), "<>"):
        kind = Kind(bits=bits, reversed_bits=reversed_bits, big=big, compression=compression, order=order)
        assert np.array_equal(read(tiff(samples, kind)), grey(levels(samples, bits)))


@pytest.mark.parametrize("rows", [1, 5, HEIGHT, 2**32 - 1])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_strips_of_any_height(rows: int, compression: int) -> None:
    samples = grown(16, 3)
    kind = Kind(bits=16, photometric=2, compression=compression, rows_per_strip=min(rows, HEIGHT))
    assert np.array_equal(read(tiff(samples, kind, tags={278: (4, [rows])})), samples >> 8)


def test_one_bit_in_fax_compression() -> None:
    image = scene(61, 40).convert("1")
    for compression in ("group3", "group4", "tiff_ccitt"):
        try:
            data = encoded(image, "TIFF", compression=compression)
        except OSError:
            continue
        assert np.array_equal(read(data)[..., 0], np.asarray(image) * 255)


@pytest.mark.parametrize("codec", ["lzma", "zstd", "lzw", "packbits", "deflate", "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4", "f8"])
@pytest.mark.parametrize("predictor", [False, True])
def test_what_tifffile_writes(dtype: str, codec: str, predictor: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    if predictor and codec == "packbits":
        pytest.skip("PackBits takes no predictor")
    type_ = np.dtype(dtype)
    samples = (LIGHT[..., :3] * (1 if type_.kind == "f" else 2 ** (8 * type_.itemsize) - 1)).astype(type_)
    for planar, tile, order in itertools.product((False, True), (None, (16, 16)), "<>"):
        file = io.BytesIO()
        layout = {"photometric": "rgb", "planarconfig": "separate" if planar else "contig", "tile": tile}
        stored = np.moveaxis(samples, -1, 0) if planar else samples
        tifffile.imwrite(file, stored, byteorder=order, compression=codec, predictor=predictor, **layout)
        real = samples.astype(float)
        expected = np.rint(real * 255) if type_.kind == "f" else samples.astype(np.int64) >> (8 * type_.itemsize - 8)
        assert np.abs(read(file.getvalue()) - expected).max() <= (1 if type_.kind == "f" else 0)  # of half a level


# --- what samples mean


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("of_eight_bits", [False, True])
def test_palette(bits: int, of_eight_bits: bool) -> None:
    n = 2**bits
    colors = np.random.default_rng(bits).integers(0, 256, (n, 3))
    colors[0, 0] = 200  # a value that tells 16 bits from 8
    table = (colors.T * (1 if of_eight_bits else 257)).ravel().tolist()
    indices = grown(bits, 1)
    for planar_or_not in (1, 5):
        data = tiff(indices, Kind(bits=bits, photometric=3, compression=planar_or_not), tags={320: (3, table)})
        assert np.array_equal(read(data), colors[indices[..., 0]])


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.asarray(color * alpha + 255 * (1 - alpha))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [0, 1, 2, 999, None])
@pytest.mark.parametrize("n_colors", [1, 3])
def test_fourth_sample(n_colors: int, extra: int | None, bits: int, planar: bool) -> None:
    color, alpha = LIGHT[..., :n_colors], LIGHT[..., 3:]
    stored = color * alpha if extra == 1 else color
    samples = np.rint(np.concatenate([stored, alpha], axis=2) * (2**bits - 1)).astype(np.uint32)
    kind = Kind(
        bits=bits, photometric=1 if n_colors == 1 else 2, planar=planar, extra=(extra,) if extra is not None else ()
    )
    found = read(tiff(samples, kind))
    is_alpha = extra in (1, 2, 999) or (extra is None and n_colors == 3)
    expected = over_white(color * 255, alpha) if is_alpha else color * 255
    expected = np.repeat(expected, 3, axis=2) if n_colors == 1 else expected
    assert np.abs(found - expected).max() <= 2


def test_a_fourth_sample_of_nothing_but_zeros_hides_nothing() -> None:
    samples = np.concatenate([grown(8, 3), np.zeros((HEIGHT, WIDTH, 1), np.uint32)], axis=2)
    assert np.array_equal(read(tiff(samples, Kind(photometric=2))), samples[..., :3])
    data = tiff(samples, Kind(photometric=2, extra=(2,)))
    assert (read(data) == 255).all()
    assert warnings_of(read_image(data)) == ("it is transparent everywhere: what is judged is white",)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_cmyk(bits: int, planar: bool, with_alpha: bool) -> None:
    inks = grown(bits, 4)
    alpha = np.full((HEIGHT, WIDTH, 1), (2**bits - 1) // 2, np.uint32)
    samples = np.concatenate([inks, alpha], axis=2) if with_alpha else inks
    kind = Kind(bits=bits, photometric=5, planar=planar, extra=(2,) if with_alpha else ())
    pillow = Image.frombytes("CMYK", (WIDTH, HEIGHT), levels(inks, bits).astype(np.uint8).tobytes()).convert("RGB")
    color = np.asarray(pillow).astype(float)
    assert np.abs(read(tiff(samples, kind)) - (over_white(color, np.array(0.498)) if with_alpha else color)).max() <= 2


def test_inks_that_are_not_cmyk_are_refused() -> None:
    assert "other inks" in error_of(tiff(grown(8, 4), Kind(photometric=5), tags={332: (3, [2])}))


@pytest.mark.parametrize("photometric", [8, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab(photometric: int, bits: int) -> None:
    # White, black, middle grey, and the red whose Lab is 53, 80, 67: L of 0..255, a and b signed.
    lab = np.array([[255, 0, 0], [0, 0, 0], [137, 0, 0], [136, 80, 67]]).reshape(2, 2, 3)
    stored = lab + np.array([0, 128, 128]) if photometric == 9 else lab & 255
    samples = stored * 256 if bits == 16 else stored
    found = read(tiff(samples.astype(np.uint32), Kind(bits=bits, photometric=photometric)))
    expected = np.array([[255, 255, 255], [0, 0, 0], [128, 128, 128], [255, 0, 0]]).reshape(2, 2, 3)
    assert np.abs(found - expected).max() <= 12  # Lab of 8 bits has coarse steps


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 4), (1, 2)])
def test_ycbcr(across: int, down: int) -> None:
    width, height = 19, 13
    image = Image.new("RGB", (width, height), (200, 60, 30))
    image.paste((30, 90, 220), (0, 0, 8, height))
    ycbcr = np.asarray(image.convert("YCbCr")).astype(np.uint8)
    rows, columns = -(-height // down), -(-width // across)
    whole = np.pad(ycbcr, ((0, rows * down - height), (0, columns * across - width), (0, 0)), mode="edge")
    cells = whole.reshape(rows, down, columns, across, 3).transpose(0, 2, 1, 3, 4)
    luma = cells[..., 0].reshape(rows, columns, -1)
    data = np.concatenate([luma, cells[:, :, 0, 0, 1:]], axis=2).astype(np.uint8)
    kind = Kind(photometric=6, rows_per_strip=4 * down)
    tags = {530: (3, [across, down])}
    for compression in (1, 5, 8):
        kind = replace(kind, compression=compression)
        strips = [packed_cells(data[i : i + 4], kind) for i in range(0, rows, 4)]
        found = read(tiff(np.zeros((height, width, 3), np.uint32), kind, tags=tags, data=strips))
        assert np.abs(found - np.asarray(image).astype(int)).max() <= 2


def packed_cells(cells: np.ndarray, kind: Kind) -> bytes:
    from tiff_files import compressed

    return compressed(cells.tobytes(), kind)


def test_ycbcr_with_its_own_black_and_white() -> None:
    samples = np.full((HEIGHT, WIDTH, 3), (235, 128, 128), np.uint32)
    reference = [value * 10000 for value in (15, 235, 128, 240, 128, 240)]
    tags = {530: (3, [1, 1]), 532: (5, reference)}
    assert (read(tiff(samples, Kind(photometric=6), tags=tags)) == 255).all()


@pytest.mark.parametrize(("n", "expected"), [(1, "grey"), (3, "RGB")])
def test_a_file_that_does_not_say_what_its_samples_mean(n: int, expected: str) -> None:
    samples = grown(8, n)
    data = tiff(samples, Kind(photometric=None))
    assert np.array_equal(read(data), samples if n == 3 else grey(samples))
    (remark,) = warnings_of(read_image(data))
    assert remark == f"it does not say what its colours mean; they are taken as {expected}"


# --- numbers that do not say what white is


@pytest.mark.parametrize(
    ("values", "bits", "format_", "expected", "remark"),
    [
        ((0.0, 0.5, 1.0), 32, 3, (0, 128, 255), None),
        ((0.0, 0.25, 7.0, 0.5), 32, 3, (0, 64, 255, 128), "its values go up to 7: 1 is taken for white"),
        ((-0.5, 0.5, 1.0), 32, 3, (0, 128, 255), "its values go down to -0.5: 0 is taken for black"),
        ((0.0, 51.0, 255.0), 32, 3, (0, 51, 255), None),
        ((0.0, 500.0, 1000.0), 64, 3, (0, 128, 255), "its values go up to 1000, which is taken for white"),
        ((float("nan"), 0.5, float("inf")), 32, 3, (0, 128, 255), None),
        ((0, 60, 127), 8, 2, (0, 120, 255), None),
        ((0, 16384, 32767), 16, 2, (0, 128, 255), None),
        ((-7, 200, 255), 32, 2, (0, 200, 255), "its values go down to -7: 0 is taken for black"),
        ((0, 0x8100, 0xFFFF), 32, 1, (0, 0x81, 255), None),
        ((0, 0x81000000, 0xFFFFFFFF), 32, 1, (0, 0x81, 255), None),
    ],
)
def test_values(
    values: tuple[Any, ...], bits: int, format_: int, expected: tuple[int, ...], remark: str | None
) -> None:
    samples = np.array(values).reshape(1, -1, 1)
    for order in "<>":
        image = read_image(tiff(samples, Kind(bits=bits, sample_format=format_, order=order)))
        assert np.array_equal(np.asarray(image)[0, :, 0], expected)
        said = warnings_of(image)
        assert said == () if remark is None else (len(said) == 1 and said[0].startswith(remark))


# --- several pictures in a file, profiles, orientation


def test_the_first_page_that_is_no_thumbnail() -> None:
    data = bytearray(tiff(np.zeros((3, 4, 1), np.uint32), Kind(), tags={254: (4, [1])}))
    first = struct.unpack_from("<I", data, 4)[0]
    n = struct.unpack_from("<H", data, first)[0]
    samples = grown(8, 3)
    kind = Kind(photometric=2)
    parts = segments(samples, kind)
    at = len(data)
    values = {256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 277: (3, [3])}
    offsets = [at + sum(map(len, parts[:i])) for i in range(len(parts))]
    values |= {278: (4, [7]), 273: (4, offsets), 279: (4, [len(part) for part in parts])}
    data += b"".join(parts)
    struct.pack_into("<I", data, first + 2 + 12 * n, len(data))
    data += directory(values, len(data), "<", big=False)
    assert np.array_equal(read(bytes(data)), samples)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_planar_16_bits(orientation: int) -> None:
    samples = grown(16, 3)
    read_plain = read_image(tiff(samples, Kind(bits=16, photometric=2, planar=True)))
    turned = read_image(tiff(samples, Kind(bits=16, photometric=2, planar=True), tags={274: (3, [orientation])}))
    by_pillow = encoded(read_plain, "PNG", exif=exif_of(orientation))
    assert turned.tobytes() == read_image(by_pillow).tobytes()


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_profile() -> None:
    icc = linear_rgb_profile()
    data = tiff(np.full((4, 4, 3), 128 * 257, np.uint32), Kind(bits=16, photometric=2), tags={34675: (1, icc)})
    assert np.abs(read(data) - 188).max() <= 1


# --- JPEG and WebP inside
