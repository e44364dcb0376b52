"""JPEGs decoded at reduced scale differ from full decode by no more than the docstring of OVERSAMPLING says."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded
from measure_jpeg_draft import PHOTOS, difference, levels_spec, worst_towers
from PIL import Image

from aesedge.image import OVERSAMPLING, preprocess, read_image

MAX_LEVELS, MAX_MEAN_LEVELS = 24, 1.5  # of 255


def hard_photo(width: int, height: int) -> Image.Image:
    """Return edges, fine texture and noise in full colour: more detail than photographs have."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / (3 + y / 90)), np.cos(y / (5 + x / 200)), np.sin((x + y) / 17)], axis=-1)
    blocks = ((x // 37 + y // 23) % 2)[..., None] * np.array([60, 30, -40])
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 1))
    return Image.fromarray((128 + 40 * waves + blocks + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(672, 448), (673, 451), (451, 673), (678, 675), (700, 17)], ids=str)
@pytest.mark.parametrize("orientation", [1, 6])
def test_difference_is_within_the_bound(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(hard_photo(*size), "JPEG", quality=92, exif=exif)
    towers = worst_towers(data)
    assert len(towers) == 3
    for tower in towers:
        most, mean = difference(data, tower)
        assert 0 < most <= MAX_LEVELS
        assert mean <= MAX_MEAN_LEVELS


@pytest.mark.parametrize("name", PHOTOS)
def test_difference_of_photographs_is_within_the_bound(name: str) -> None:
    skimage = pytest.importorskip("skimage")
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        data = encoded(image.convert("RGB"), "JPEG", quality=92)
    for tower in worst_towers(data):
        most, mean = difference(data, tower)
        assert most <= MAX_LEVELS
        assert mean <= MAX_MEAN_LEVELS


@pytest.mark.parametrize("size", [(1345, 899), (899, 1345), (1351, 898), (1351, 901)], ids=str)
def test_the_border_stays_where_it_is_at_odd_sizes(size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size, "white"), "JPEG")
    assert difference(data, 168)[0] <= 4
    plain = read_image(data, size_hint=168)
    plain.info = {}  # without what it knows about the photo's own size, whole pixels of border move the photo
    full = preprocess(read_image(data), levels_spec(168))
    assert np.abs(preprocess(plain, levels_spec(168)) - full).max() > 8


@pytest.mark.parametrize(
    ("size_hint", "long_side"), [(None, 1344), (400, 1344), (337, 1344), (336, 672), (169, 672), (168, 336), (84, 168)]
)
def test_the_scale_leaves_enough_pixels(size_hint: int | None, long_side: int) -> None:
    read = read_image(encoded(hard_photo(1344, 896), "JPEG"), size_hint=size_hint)
    assert max(read.size) == long_side
    assert size_hint is None or long_side >= OVERSAMPLING * size_hint


def test_the_first_picture_of_several_in_a_jpeg_is_reduced() -> None:
    image = hard_photo(672, 448)
    data = encoded(image, "MPO", save_all=True, append_images=[image.rotate(180)], quality=92)
    assert max(read_image(data, size_hint=84).size) == 168
    assert difference(data, 84)[0] <= MAX_LEVELS


def test_only_jpeg_is_reduced_and_only_from_a_file() -> None:
    image = hard_photo(600, 400)
    assert read_image(encoded(image, "PNG"), size_hint=28).size == (600, 400)
    opened = Image.open(io.BytesIO(encoded(image, "JPEG")))
    assert read_image(opened, size_hint=28).size == (600, 400)  # its owner may want all of it


def test_a_crop_of_a_reduced_picture_is_padded_as_a_crop() -> None:
    reduced = read_image(encoded(hard_photo(1345, 899), "JPEG"), size_hint=168)
    crop = reduced.crop((0, 0, 100, 200))
    bare = Image.frombytes("RGB", crop.size, crop.tobytes())
    assert np.array_equal(preprocess(crop, levels_spec(56)), preprocess(bare, levels_spec(56)))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpeg_modes_are_reduced_too(mode: str) -> None:
    data = encoded(hard_photo(1345, 899).convert(mode), "JPEG", quality=92)
    assert max(read_image(data, size_hint=84).size) < 400
    assert difference(data, 84)[0] <= MAX_LEVELS


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (3000, 3), (9, 3001)], ids=str)
def test_thin_photos_are_read(size: tuple[int, int]) -> None:
    read = read_image(encoded(Image.new("RGB", size, "red"), "JPEG"), size_hint=56)
    assert min(read.size) >= 1
    assert preprocess(read, levels_spec(56)).shape == (1, 3, 56, 56)
