"""Every mode, profile and transparency becomes the sRGB picture that people see."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_files import (
    encoded,
    linear_grey_profile,
    linear_rgb_profile,
    png_chunk,
    red_cyan_profile,
    scene,
    swapped_profile,
)
from PIL import Image, ImageCms

from aesedge.image import read_image

RED = (200, 50, 20)


def color(source: Any) -> tuple[int, ...]:
    image = read_image(source)
    assert image.mode == "RGB"
    pixel = image.getpixel((1, 1))
    assert isinstance(pixel, tuple)
    return pixel


def flat(mode: str, value: Any) -> Image.Image:
    return Image.new(mode, (4, 4), value)


def close(a: tuple[int, ...], b: tuple[int, ...], tolerance: int = 2) -> bool:
    return len(a) == len(b) and all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


# --- modes


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat("RGB", RED), RED),
        (flat("L", 77), (77, 77, 77)),
        (flat("1", 1), (255, 255, 255)),
        (flat("1", 0), (0, 0, 0)),
        (flat("RGB", RED).quantize(4), RED),
        (flat("RGB", RED).convert("YCbCr"), RED),
        (flat("RGB", RED).convert("HSV"), RED),
        (flat("RGB", RED).convert("CMYK"), RED),
        (flat("RGBX", (*RED, 9)), RED),
        (flat("LAB", (138, 208, 195)), (255, 5, 7)),
        (flat("I;16", 0x8123), (0x81,) * 3),
        (flat("I", 200), (200,) * 3),
        (flat("I", 0x8123), (0x81,) * 3),
        (flat("I", 0x40000000), (128,) * 3),
        (flat("I", -5), (0,) * 3),
        (flat("F", 0.5), (128,) * 3),
        (flat("F", 200.0), (200,) * 3),
        (flat("F", float("nan")), (0,) * 3),
        (flat("F", -1.0), (0,) * 3),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value[0]),
)
def test_mode_becomes_srgb(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert close(color(image), expected, 4)


def test_lab_is_the_same_from_file_and_memory() -> None:
    lab = flat("LAB", (138, 80, 67))
    assert color(encoded(lab, "TIFF")) == color(lab)


def test_a_float_picture_keeps_its_steps() -> None:
    ramp = Image.fromarray(np.linspace(0, 1000, 16, dtype=np.float32).reshape(4, 4))
    grey = np.asarray(read_image(ramp))[..., 0].ravel().tolist()
    assert grey == [17 * step for step in range(16)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey_is_scaled_not_clipped(order: str) -> None:
    ramp = (np.arange(16) * 4369).astype(order + "u2").reshape(4, 4)
    file = io.BytesIO()
    Image.frombytes("I;16" if order == "<" else "I;16B", (4, 4), ramp.tobytes()).save(file, "TIFF")
    assert np.asarray(read_image(file.getvalue()))[..., 1].ravel().tolist() == [17 * step for step in range(16)]


def test_sixteen_bit_png_is_scaled_not_clipped() -> None:
    ramp = (np.arange(16) * 4369).astype(np.uint16).reshape(4, 4)
    read = np.asarray(read_image(encoded(Image.fromarray(ramp), "PNG")))
    assert read[..., 2].ravel().tolist() == [17 * step for step in range(16)]


def test_sixteen_bit_rgb_png() -> None:
    row = b"\0" + struct.pack(">3H", 0xC812, 0x3299, 0x1400) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(row * 2))
    assert color(data + png_chunk(b"IEND", b"")) == RED


def test_sixteen_bit_grey_pgm() -> None:
    assert color(b"P5 2 2 65535\n" + struct.pack(">4H", 0x8100, 0x8100, 0x8100, 0x8100)) == (0x81,) * 3


# --- transparency: over white


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat("RGBA", (*RED, 255)), RED),
        (flat("RGBA", (*RED, 0)), (255, 255, 255)),
        (flat("RGBA", (100, 50, 0, 128)), (177, 152, 127)),
        (flat("RGBA", (100, 50, 0, 128)).convert("RGBa"), (177, 152, 127)),
        (flat("LA", (100, 128)), (177, 177, 177)),
        (flat("LA", (100, 128)).convert("La"), (177, 177, 177)),
        (flat("LA", (100, 0)), (255, 255, 255)),
        (flat("PA", (0, 0)), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value[0]),
)
def test_transparent_parts_are_white(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert close(color(image), expected)


def test_palette_with_one_transparent_color() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, *RED])
    assert color(encoded(image, "PNG")) == RED
    assert color(encoded(image, "PNG", transparency=1)) == (255, 255, 255)
    assert color(encoded(image, "GIF", transparency=1)) == (255, 255, 255)


def test_palette_with_an_opacity_per_color() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 100, 50, 0])
    assert close(color(encoded(image, "PNG", transparency=bytes((255, 128)))), (177, 152, 127))


@pytest.mark.parametrize(("image", "key"), [(flat("RGB", RED), RED), (flat("L", 9), 9)], ids=["rgb", "grey"])
def test_transparent_color_of_a_png(image: Image.Image, key: Any) -> None:
    assert color(encoded(image, "PNG", transparency=key)) == (255, 255, 255)


# --- profiles


def test_profile_is_converted_to_srgb() -> None:
    for format_, options in [("PNG", {}), ("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})]:
        data = encoded(flat("RGB", RED), format_, icc_profile=swapped_profile(), **options)
        assert close(color(data), RED[::-1], 4), format_


def test_profile_applies_under_transparency() -> None:
    half = flat("RGBA", (0, 50, 100, 128))
    assert close(color(encoded(half, "PNG", icc_profile=swapped_profile())), (177, 152, 127), 3)


def test_profile_applies_to_palettes() -> None:
    data = encoded(flat("RGB", RED).quantize(4), "PNG", icc_profile=swapped_profile())
    assert close(color(data), RED[::-1], 3)


def test_profile_is_applied_at_reduced_scale_and_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(scene(800, 600), "JPEG", quality=95, icc_profile=swapped_profile(), exif=exif)
    read = read_image(data, size_hint=64)
    expected = scene(800, 600).transpose(Image.Transpose.ROTATE_270).resize(read.size, Image.Resampling.BOX)
    assert read.size == (150, 200)
    assert np.abs(np.asarray(read).astype(int) - np.asarray(expected)[..., ::-1]).max() < 8


def test_grey_profile() -> None:
    assert color(encoded(flat("L", 128), "PNG", icc_profile=linear_grey_profile())) == (188, 188, 188)
    assert color(encoded(flat("LA", (128, 255)), "PNG", icc_profile=linear_grey_profile())) == (188, 188, 188)


def test_grey_with_the_profile_of_an_rgb_photo() -> None:
    assert close(color(encoded(flat("L", 128), "PNG", icc_profile=linear_rgb_profile())), (188, 188, 188))


def test_the_profile_of_srgb_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for value in (0, 1, 100, 254, 255):
        assert close(color(encoded(flat("RGB", (value, 9, 200)), "PNG", icc_profile=srgb)), (value, 9, 200), 1)


@pytest.mark.parametrize("format_", ["TIFF", "JPEG"])
def test_cmyk_goes_through_its_profile(format_: str) -> None:
    cyan = flat("CMYK", (255, 0, 0, 0))
    assert close(color(encoded(cyan, format_)), (0, 255, 255))
    assert close(color(encoded(cyan, format_, icc_profile=red_cyan_profile())), (253, 7, 10), 6)


BROKEN = {
    "junk": b"not a profile",
    "long junk": b"\0" * 300_000,
    "cut": swapped_profile()[:200],
    "header only": swapped_profile()[:128],
    "tags point nowhere": swapped_profile()[:136] + b"\xff" * (len(swapped_profile()) - 136),
    "another color space": red_cyan_profile(),
}


@pytest.mark.parametrize("icc", BROKEN.values(), ids=BROKEN.keys())
def test_a_profile_that_cannot_be_used_means_srgb(icc: bytes) -> None:
    assert color(encoded(flat("RGB", RED), "TIFF", icc_profile=icc)) == RED


def test_the_profile_of_another_color_space_is_left_out_for_cmyk() -> None:
    data = encoded(flat("CMYK", (255, 0, 0, 0)), "TIFF", icc_profile=swapped_profile())
    assert close(color(data), (0, 255, 255))


def test_reading_twice_converts_once() -> None:
    once = read_image(encoded(flat("RGB", RED), "PNG", icc_profile=swapped_profile()))
    assert once.info == {}
    assert read_image(once).tobytes() == once.tobytes()


# --- animations and several pictures in a file


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_is_read(format_: str) -> None:
    options: dict[str, object] = {"lossless": True} if format_ == "WEBP" else {}
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), (0, 0, 255))
    data = encoded(first, format_, save_all=True, append_images=[second], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert close(color(data), RED, 3)


def test_an_opened_picture_is_left_as_it_is() -> None:
    image = flat("RGBA", (*RED, 100))
    image.info["icc_profile"] = swapped_profile()
    before = (image.mode, image.tobytes(), dict(image.info))
    read = read_image(image)
    assert (image.mode, image.tobytes(), dict(image.info)) == before
    assert read is not image
    plain = flat("RGB", RED)
    read_image(plain).putpixel((0, 0), (0, 0, 0))
    assert plain.getpixel((0, 0)) == RED
