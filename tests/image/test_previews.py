"""The preview that a camera puts into a RAW or HEIC, in place of the photo where it is large enough."""

from __future__ import annotations

import io

import numpy as np
import pytest
from image_files import dng, encoded, mosaic_of, scene
from PIL import ExifTags, Image

from aesedge.image import OVERSAMPLING, full_size_of, read_image, seen_of

SIDE = 64  # of the tower; 128 pixels are enough
GREY = (1000, 1000, 1000)


def raw_with(preview: bytes, size: tuple[int, int], **options: int) -> bytes:
    pytest.importorskip("rawpy")
    return dng(mosaic_of(GREY, 256, 192), preview=(preview, size), **options)


def jpeg(image: Image.Image, **options: object) -> bytes:
    return encoded(image, "JPEG", quality=95, subsampling=0, **options)


def exif(*, orientation: int | None = None, is_adobe_rgb: bool = False) -> Image.Exif:
    found = Image.Exif()
    if orientation is not None:
        found[ExifTags.Base.Orientation] = orientation
    if is_adobe_rgb:
        found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 65535
        found.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    return found


def is_like(image: Image.Image, other: Image.Image) -> bool:
    pixels = (np.asarray(one.resize((32, 32)), np.int16) for one in (image, other))
    first, second = pixels
    return bool(np.abs(first - second).mean() < 6)


def test_a_preview_that_is_large_enough_is_read() -> None:
    preview = scene(2 * SIDE, 96)
    data = raw_with(jpeg(preview), preview.size)
    found = read_image(data, name="a.dng", size_hint=SIDE)
    assert seen_of(found) == "preview"
    assert found.size == preview.size
    assert is_like(found, preview)
    for size_hint in (None, SIDE + 1):
        developed = read_image(data, name="a.dng", size_hint=size_hint)
        assert seen_of(developed) == "photo"
        assert not is_like(developed, preview)


def test_a_large_preview_is_decoded_at_a_part_of_its_size() -> None:
    preview = scene(8 * SIDE, 384)
    found = read_image(raw_with(jpeg(preview), preview.size), size_hint=SIDE)
    assert found.size == (2 * SIDE, 96)
    assert full_size_of(found) == preview.size


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 180), (6, -90), (8, 90)])
def test_a_preview_is_turned_as_the_raw_says(orientation: int, turn: int) -> None:
    preview = scene(2 * SIDE, 96)
    found = read_image(raw_with(jpeg(preview), preview.size, orientation=orientation), size_hint=SIDE)
    assert seen_of(found) == "preview"
    assert is_like(found, preview.rotate(turn, expand=True))


def test_a_previews_own_orientation_goes_first() -> None:
    preview = scene(2 * SIDE, 96)
    for own in (1, 3):
        data = raw_with(jpeg(preview, exif=exif(orientation=own)), preview.size, orientation=6)
        found = read_image(data, size_hint=SIDE)
        assert is_like(found, preview.rotate(180 if own == 3 else 0))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\xff\xd8\xff" + bytes(300)])
def test_a_damaged_preview_is_not_taken(damage) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    preview = scene(2 * SIDE, 96)
    found = read_image(raw_with(damage(jpeg(preview)), preview.size), size_hint=SIDE)
    assert seen_of(found) == "photo"


def green_of(data: bytes) -> tuple[int, ...]:
    return tuple(int(value) for value in np.asarray(read_image(data, size_hint=SIDE))[40, 40])


def test_adobe_rgb_without_a_profile_is_read_as_cameras_mean_it() -> None:
    color = Image.new("RGB", (2 * SIDE, 96), (60, 180, 60))
    plain, marked = jpeg(color, exif=exif()), jpeg(color, exif=exif(is_adobe_rgb=True))
    assert np.abs(np.subtract(green_of(plain), (60, 180, 60))).max() <= 2
    # By the primaries, in light: red 1.398 * .041 - .398 * .465 < 0, green .465, blue .023.
    assert np.abs(np.subtract(green_of(marked), (0, 181, 42))).max() <= 3
    assert green_of(raw_with(marked, color.size)) == green_of(marked)


def test_a_preview_in_heic_is_read() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    if "draft" not in vars(pillow_heif.HeifImageFile.__mro__[1]):
        pytest.skip("this version of pillow-heif reads no previews")
    image = scene(16 * SIDE, 768)
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(image)
    heif.info["thumbnails"] = [4 * SIDE]
    heif.save(file, quality=90)
    found = read_image(file.getvalue(), size_hint=SIDE)
    if "thumbnails" not in pillow_heif.open_heif(io.BytesIO(file.getvalue())).info:
        pytest.skip("this libheif writes no previews")
    assert (seen_of(found), max(found.size)) == ("preview", 4 * SIDE)
    assert full_size_of(found) == image.size
    assert is_like(found, image)
    assert max(read_image(file.getvalue(), size_hint=4 * SIDE).size) == 16 * SIDE


def test_enough_is_what_the_tests_say() -> None:
    assert OVERSAMPLING == 2
