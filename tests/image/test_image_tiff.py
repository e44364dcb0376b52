"""Every kind of TIFF is read rightly, which a second decoder confirms, or refused by name."""

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
from tiff_files import Kind, directory, segments, tiff

from aesedge.errors import AesedgeError
from aesedge.image import read_image, warnings_of

WIDTH, HEIGHT = 37, 29  # neither is a multiple of a tile, a strip or a byte of bits

Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
LIGHT = np.stack([X / (WIDTH - 1), Y / (HEIGHT - 1), (X + Y) / (WIDTH + HEIGHT - 2), (X * 7 % WIDTH) / WIDTH], axis=-1)
"""Four channels of 0..1, each another gradient."""


def grown(bits: int, n_samples: int) -> np.ndarray:
    """Return samples of so many bits."""
    return np.rint(LIGHT[..., :n_samples] * (2**bits - 1)).astype(np.uint64).astype(np.uint32)


def levels(samples: np.ndarray, bits: int) -> np.ndarray:
    """Return what samples are with 8 bits: scaled up, or without their low bits."""
    samples = samples.astype(np.int64)
    return samples >> (bits - 8) if bits >= 8 else np.rint(samples * 255 / (2**bits - 1)).astype(np.int64)


def read(data: bytes) -> np.ndarray:
    return np.asarray(read_image(data)).astype(int)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.reshape(HEIGHT, WIDTH, 1), 3, axis=2)


def second_decoder(data: bytes, planar: bool) -> np.ndarray:
    """Return the samples that tifffile finds in a file."""
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        compression = opened.pages[0].compression
        if compression not in (1, 8, 32946):
            pytest.importorskip("imagecodecs")
        found = opened.pages[0].asarray()
    if found.ndim == 2:
        return np.asarray(found[..., np.newaxis])
    return np.moveaxis(found, 0, -1) if planar else np.asarray(found)


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


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16), (32, 16)])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_picture_codecs_inside(codec: str, mode: str, tile: tuple[int, int] | None, planar: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    if (codec == "webp" and (mode != "RGB" or planar)) or (mode == "L" and planar):
        pytest.skip("there is no such kind")
    samples = np.asarray(scene(61, 45).convert(mode))
    photometric = {"L": "minisblack", "RGB": "rgb", "CMYK": "separated"}[mode]
    layout: dict[str, Any] = {"tile": tile, "rowsperstrip": None if tile else 16}
    if mode != "L":
        layout["planarconfig"] = "separate" if planar else "contig"
    file = io.BytesIO()
    stored = np.moveaxis(samples, -1, 0) if planar else samples
    level = {"compressionargs": {"level": 95}}
    tifffile.imwrite(file, stored, photometric=photometric, compression=codec, **level, **layout)
    data = file.getvalue()
    found = second_decoder(data, planar).astype(np.uint8)
    expected = Image.frombytes(mode, (61, 45), np.ascontiguousarray(found).tobytes()).convert("RGB")
    assert np.abs(read(data) - np.asarray(expected).astype(int)).max() <= 2
    assert np.abs(found.reshape(45, 61, -1).astype(int) - samples.reshape(45, 61, -1)).mean() < 8


def test_jpeg_with_common_tables() -> None:
    for mode in ("RGB", "L"):
        data = encoded(scene(61, 45).convert(mode), "TIFF", compression="jpeg", quality=95)
        assert np.abs(read(data) - np.asarray(scene(61, 45).convert(mode).convert("RGB")).astype(int)).max() <= 12


def test_a_jpeg_of_the_old_kind() -> None:
    jpeg = encoded(scene(61, 45), "JPEG", quality=95)
    tags = {513: (4, [16]), 514: (4, [len(jpeg)])}
    kind = Kind(photometric=6, compression=6)
    data = tiff(np.zeros((45, 61, 3), np.uint32), kind, tags=tags, data=[jpeg])
    assert np.abs(read(data) - np.asarray(scene(61, 45)).astype(int)).max() <= 12


# --- what is not read has a name


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
