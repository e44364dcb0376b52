"""aesedge.image.preprocess equals LLaVA's order of steps with transformers' CLIP image processor."""

import sys

import numpy as np
import pytest
from image_files import scene
from PIL import Image

from aesedge.errors import ImageError, UsageError
from aesedge.image import preprocess
from aesedge.image.image_spec import ImageSpec
from aesedge.image.preprocess import _STRIP_ROWS

TOLERANCE = 1e-5  # of the normalised values; the pixels before them are the same to the bit

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PAD = (122, 116, 104)
SIZES = [
    *((1, 1), (1, 7), (7, 1), (2, 3), (1, 1000), (1000, 1), (1000, 3), (3, 1000)),
    *((336, 336), (335, 337), (337, 335), (50, 50), (640, 427), (427, 640), (1023, 682), (700, 1201)),
]


def spec(size: int = 336) -> ImageSpec:
    return ImageSpec(size=size, mean=MEAN, std=STD, pad_color=PAD)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * 7 + height).integers(0, 256, (height, width, 3), np.uint8))


def pad_to_square(image: Image.Image) -> Image.Image:
    """Do what LLaVA does before its image processor."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * mean) for mean in MEAN))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


@pytest.mark.parametrize("tower", [28, 224, 336])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_clip_image_processor_after_padding(size: tuple[int, int], tower: int) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": tower}, crop_size=tower, image_mean=MEAN, image_std=STD
    )
    image = noise(*size)
    # Without the format named, a photo of 1 or 3 pixels is taken for one with its channels first.
    layout = {"input_data_format": "channels_last", "return_tensors": "np"}
    reference = processor.preprocess(pad_to_square(image), **layout)["pixel_values"]
    assert np.abs(preprocess(image, spec(tower)) - reference).max() <= TOLERANCE


@pytest.mark.parametrize("size", [*SIZES, (90, 2 * _STRIP_ROWS), (2 * _STRIP_ROWS + 1, 1), (40, 3000)], ids=str)
def test_equals_padding_then_resizing_to_the_bit(size: tuple[int, int]) -> None:
    image = noise(*size)
    levels = np.asarray(pad_to_square(image).resize((336, 336), Image.Resampling.BICUBIC), dtype=np.float32)
    plain = ImageSpec(size=336, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), pad_color=PAD)
    ours = preprocess(image, plain)[0].transpose(1, 2, 0)
    assert np.array_equal(np.rint(ours * 255), levels)


def test_gives_one_float32_row_major_batch() -> None:
    pixels = preprocess(scene(), spec(56))
    assert pixels.shape == (1, 3, 56, 56)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous


def test_border_has_the_pad_color_on_both_sides() -> None:
    pixels = preprocess(Image.new("RGB", (100, 20), "white"), spec(50))
    border = (np.array(PAD) / 255 - MEAN) / STD
    assert np.allclose(pixels[0, :, :15, :], border[:, None, None], atol=1e-6)
    assert np.allclose(pixels[0, :, 35:, :], border[:, None, None], atol=1e-6)
    assert np.allclose(pixels[0, :, 25, :], ((1 - np.array(MEAN)) / STD)[:, None], atol=1e-6)


def test_leaves_the_picture_as_it_is() -> None:
    image = scene()
    before = image.tobytes()
    preprocess(image, spec())
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(UsageError, match=rf"not mode {mode}; read_image"):
        preprocess(Image.new(mode, (4, 4)), spec())


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)], ids=str)
def test_no_pixels_is_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="no pixels"):
        preprocess(Image.new("RGB", size), spec())


def test_a_tall_strip_takes_no_square_of_memory() -> None:
    resource = pytest.importorskip("resource")
    preprocess(Image.new("RGB", (3, 100)), spec())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    preprocess(Image.new("RGB", (2, 12_000)), spec(14))  # its square takes 576 MB
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024 * (1024 if sys.platform == "darwin" else 1)  # macOS counts bytes
