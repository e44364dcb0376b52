"""A photo is the same picture in whichever of the eight EXIF orientations it is stored."""

from pathlib import Path

import numpy as np
import pytest
from image_files import ORIENTATION, encoded, scene, stored
from PIL import Image, ImageOps

from aesedge.image import preprocess, read_image
from aesedge.image.image_spec import ImageSpec

SPEC = ImageSpec(size=56, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), pad_color=(122, 116, 104))
PHOTOS = Path(__file__).parents[3] / "shared" / "photos" / "exif-orientation"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format_", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
    ids=["png", "tiff", "tiff-lzw", "webp"],
)
def test_all_orientations_give_the_same_pixels(format_: str, options: dict[str, object], orientation: int) -> None:
    image = scene(61, 40)
    read = read_image(stored(image, orientation, format_, **options))
    assert read.size == image.size
    assert read.tobytes() == image.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_a_jpeg_give_nearly_the_same_pixels(orientation: int) -> None:
    image = scene(64, 48)  # whole blocks: what JPEG loses does not depend on the turn, but for rounding
    read = read_image(stored(image, orientation, "JPEG", quality=95, subsampling=0))
    assert read.size == image.size
    assert np.abs(np.asarray(read).astype(int) - np.asarray(image)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_avif_is_applied_once(orientation: int) -> None:
    image = scene(64, 48)
    read = read_image(stored(image, orientation, "AVIF", quality=95))
    assert read.size == image.size
    assert np.abs(np.asarray(read).astype(int) - np.asarray(image)).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_reduced_scale_go_together(orientation: int) -> None:
    image = scene(901, 600)  # 901 is odd at every scale
    upright = preprocess(read_image(stored(image, 1, "JPEG", quality=95, subsampling=0)), SPEC)
    read = read_image(stored(image, orientation, "JPEG", quality=95, subsampling=0), size_hint=SPEC.size)
    assert max(read.size) < 901
    assert (np.abs(preprocess(read, SPEC) - upright) * 127.5).max() < 5  # levels of 255


def test_xmp_orientation_is_applied() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert read_image(encoded(scene(60, 40), "JPEG", xmp=xmp)).size == (40, 60)


def test_orientation_of_an_opened_picture_is_applied_and_the_picture_left_alone() -> None:
    image = scene(60, 40)
    image.getexif()[ORIENTATION] = 6
    assert read_image(image).size == (40, 60)
    assert image.size == (60, 40)
    assert image.getexif()[ORIENTATION] == 6


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_unknown_orientation_means_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert read_image(encoded(scene(60, 40), "PNG", exif=exif)).tobytes() == scene(60, 40).tobytes()


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*" + b"\xff" * 60])
def test_broken_exif_means_upright(exif: bytes) -> None:
    assert read_image(encoded(scene(60, 40), "JPEG", exif=exif)).size == (60, 40)


def test_reading_twice_turns_once() -> None:
    once = read_image(stored(scene(60, 40), 6, "PNG"))
    assert read_image(once).tobytes() == once.tobytes()


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos are not beside this checkout")
@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_nine_stored_forms_of_a_photo_look_alike(kind: str) -> None:
    paths = sorted(PHOTOS.glob(f"{kind}_*.jpg"))
    assert len(paths) == 9
    pixels = [preprocess(read_image(path, size_hint=SPEC.size), SPEC) for path in paths]
    for path, one in zip(paths, pixels, strict=True):
        # Each file was compressed on its own, so they differ by noise of JPEG, not by a turn.
        assert np.abs(one - pixels[0]).mean() * 127.5 < 3, path.name
        turned = np.asarray(ImageOps.mirror(Image.fromarray((one[0, 0] * 127.5 + 127.5).astype(np.uint8))), dtype=float)
        assert np.abs(turned - (pixels[0][0, 0] * 127.5 + 127.5)).mean() > 10
