"""HEIC and camera RAW through the extra ``photo``, and what is said without it."""

import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from image_files import dng, encoded, mosaic_of, scene, swapped_profile
from PIL import Image

from aesedge.errors import ImageError, ImageTooLargeError, MissingExtraError
from aesedge.image import OVERSAMPLING, read_image

GREY_CARD = (500, 1000, 800)  # a sensor that sees more green than red and blue


def levels(image: Image.Image) -> list[int]:
    """Return the colour in the middle."""
    return [int(value) for value in np.asarray(image)[image.height // 2, image.width // 2]]


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    import io

    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444, **options)
    return file.getvalue()


# --- HEIC


def test_heic_is_read() -> None:
    image = scene(64, 48)
    read = read_image(heic(image))
    assert read.mode == "RGB"
    assert read.size == image.size
    assert np.abs(np.asarray(read).astype(int) - np.asarray(image)).mean() < 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_turned_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = scene(64, 48)
    back = {1: image, 3: image.rotate(180), 6: image.rotate(90, expand=True), 8: image.rotate(-90, expand=True)}
    read = read_image(heic(back[orientation], exif=exif.tobytes()))
    assert read.size == image.size
    assert np.abs(np.asarray(read).astype(int) - np.asarray(image)).mean() < 3


def test_heic_profile_is_converted() -> None:
    image = Image.new("RGB", (64, 64), (200, 50, 20))
    image.info["icc_profile"] = swapped_profile()
    assert np.abs(np.array(levels(read_image(heic(image)))) - (20, 50, 200)).max() <= 5


def test_heic_transparency_is_white() -> None:
    assert levels(read_image(heic(Image.new("RGBA", (64, 64), (200, 50, 20, 0))))) == [255, 255, 255]


def test_heic_limits_and_damage() -> None:
    data = heic(scene(64, 48))
    with pytest.raises(ImageTooLargeError, match="64x48 is above the limit of 1000 pixels"):
        read_image(data, max_pixels=1000)
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            read_image(data[: int(len(data) * part)])


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_heic_without_the_extra_names_it(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"miafheic" + bytes(100)
    with pytest.raises(MissingExtraError, match=r"^photo\.jpg is a HEIC photo: .*'aesedge\[photo\]'$") as caught:
        read_image(data, name="photo.jpg")  # content decides, so the suffix does not matter
    assert caught.value.extra == "photo"


def test_avif_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = bytearray(encoded(scene(64, 48), "AVIF"))
    assert read_image(bytes(data)).size == (64, 48)
    data[8:12] = b"mif1"  # some writers put the general brand first; avif stays among the compatible ones
    assert b"avif" in data[16 : int.from_bytes(data[:4], "big")]
    assert read_image(bytes(data)).size == (64, 48)


# --- RAW


@pytest.fixture
def card() -> bytes:
    pytest.importorskip("rawpy")
    return dng(mosaic_of(GREY_CARD), neutral=(50, 100, 80))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["photo.dng", "photo.tif", None])
def test_raw_is_developed_not_its_thumbnail(name: str | None, order: str) -> None:
    pytest.importorskip("rawpy")
    read = read_image(dng(mosaic_of(GREY_CARD), neutral=(50, 100, 80), order=order), name=name)
    assert read.size == (64, 48)  # the thumbnail has 4x4
    assert read.mode == "RGB"


def test_raw_has_the_white_balance_of_the_camera(card: bytes) -> None:
    red, green, blue = levels(read_image(card))
    assert max(red, green, blue) - min(red, green, blue) <= 1
    red, green, blue = levels(read_image(dng(mosaic_of(GREY_CARD))))
    assert green - red > 30


def test_raw_has_the_curve_of_srgb(card: bytes) -> None:
    light = 1000 / 4095
    assert abs(levels(read_image(card))[1] - 255 * (1.055 * light ** (1 / 2.4) - 0.055)) <= 2


def test_raw_keeps_its_exposure() -> None:
    pytest.importorskip("rawpy")
    bright, dark = (levels(read_image(dng(mosaic_of((v, v, v)))))[1] for v in (2000, 125))
    assert bright > 170
    assert dark < 60


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 48)), (3, (64, 48)), (6, (48, 64)), (8, (48, 64))])
def test_raw_is_turned(orientation: int, size: tuple[int, int]) -> None:
    pytest.importorskip("rawpy")
    mosaic = mosaic_of((1000, 1000, 1000))
    mosaic[:, :32] = 3000  # the left half of the sensor is bright
    image = np.asarray(read_image(dng(mosaic, orientation=orientation)))[..., 1].astype(int)
    assert image.shape == size[::-1]
    bright = {1: image[:, :20], 3: image[:, -20:], 6: image[:20], 8: image[-20:]}[orientation]
    assert bright.mean() > image.mean() + 20


def test_raw_is_developed_at_half_size_where_that_is_enough(card: bytes) -> None:
    assert read_image(card, size_hint=32 // OVERSAMPLING).size == (32, 24)
    assert read_image(card, size_hint=32 // OVERSAMPLING + 1).size == (64, 48)
    assert levels(read_image(card, size_hint=8)) == pytest.approx(levels(read_image(card)), abs=1)


def test_raw_limits_are_checked_before_decoding(card: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    rawpy = pytest.importorskip("rawpy")

    class Undeveloped(rawpy.RawPy):
        def postprocess(self, **_: object) -> None:
            pytest.fail("decoded before its size was checked")

    def opened(file: BinaryIO) -> Undeveloped:
        raw = Undeveloped()
        raw.open_buffer(file)
        return raw

    monkeypatch.setattr(rawpy, "imread", opened)
    with pytest.raises(ImageTooLargeError, match="64x48 is above the limit of 3000 pixels"):
        read_image(card, max_pixels=3000)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_raw_is_an_error(card: bytes, part: float) -> None:
    with pytest.raises(ImageError, match=r"^a\.dng: "):
        read_image(card[: int(len(card) * part)], name="a.dng")


def test_junk_named_as_raw_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    path = tmp_path / "a.cr2"
    path.write_bytes(b"junk" * 1000)
    with pytest.raises(ImageError, match=r"a\.cr2: cannot be decoded"):
        read_image(path)


def test_raw_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for data, name in [
        (dng(mosaic_of(GREY_CARD)), "a.tif"),
        (dng(mosaic_of(GREY_CARD), version=False), "a.tif"),
        (dng(mosaic_of(GREY_CARD), version=False, order=">"), "a.tif"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "a"),
        (b"IIU\0" + bytes(100), "a"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "a"),
        (struct.pack(">I", 24) + b"ftypcrx " + bytes(4) + b"crx isom" + bytes(99), "a"),
        (b"II*\0" + bytes(100), "a.NEF"),
        (b"unknown" + bytes(100), "a.raw"),
    ]:
        with pytest.raises(MissingExtraError, match=r"is a camera RAW photo.*'aesedge\[photo\]'"):
            read_image(data, name=name)


def test_a_plain_tiff_is_not_taken_for_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for compression in ("raw", "tiff_lzw", "jpeg"):
        assert read_image(encoded(scene(), "TIFF", compression=compression)).size == (60, 40)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_whose_directories_run_in_a_circle_ends(order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    # One entry, SubIFDs, which points back at the directory that it stands in; so does the next directory.
    entry = struct.pack(order + "HHII", 330, 4, 1, 8)
    data = mark + struct.pack(order + "I", 8) + struct.pack(order + "H", 1) + entry + struct.pack(order + "I", 8)
    with pytest.raises(ImageError):
        read_image(data)
