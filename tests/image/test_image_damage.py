"""Bad and hostile photos: each is one line that names the photo and a way out, never a traceback or a warning."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_errors import error_of
from image_files import encoded, pixels_and_end, png, png_chunk, scene
from PIL import Image

import aesedge.image.pillow as image_pillow
from aesedge.errors import ImageError
from aesedge.image import read_image

FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "PCX"]


def detailed() -> Image.Image:
    """Return a picture that every format needs some kilobytes for."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


# --- content that is no image, or not all of it


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"hello, world\n" * 100,
        b"<html><body>404 Not Found</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.7\n" + b"x" * 100,
        b"\0" * 5000,
        b"\xff" * 5000,
        b"II*\0" + b"\xff" * 100,
        b"\0\0\0\x18ftypisomxxxxmp42" + bytes(100),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_not_an_image(data: bytes) -> None:
    assert "; export it as JPEG or PNG" in error_of(data)


def test_an_empty_file() -> None:
    assert "is empty (0 bytes)" in error_of(b"")
    assert "is empty (0 bytes)" in error_of(io.BytesIO())


def test_postscript_is_never_run() -> None:
    data = encoded(scene(), "EPS")
    assert Image.open(io.BytesIO(data)).format == "EPS"
    assert "not an image in a known format" in error_of(data)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_an_error(format_: str, part: float) -> None:
    data = encoded(detailed(), format_)
    assert read_image(data).size == (64, 64)
    error_of(data[: int(len(data) * part)])


@pytest.mark.parametrize("size_hint", [None, 56])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_truncated_jpeg_is_an_error_at_every_scale(options: dict[str, Any], size_hint: int | None) -> None:
    data = encoded(detailed().resize((400, 300)), "JPEG", **options)
    for part in (0.1, 0.5, 0.95):
        assert "truncated" in error_of(data[: int(len(data) * part)], size_hint=size_hint)


@pytest.mark.parametrize("format_", FORMATS)
def test_damaged_bytes_never_raise_another_error(format_: str) -> None:
    data = encoded(detailed().resize((32, 32)), format_)
    rng = np.random.default_rng(len(format_))
    messages = []
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, min(len(data), 200), 4)] = rng.integers(0, 256, 4)
        try:
            read_image(damaged.tobytes(), max_pixels=10**6)
        except ImageError as error:
            messages.append(str(error))
    assert messages
    assert all(message.isprintable() for message in messages)


@pytest.mark.parametrize(
    "raised", [RecursionError("x"), MemoryError(), KeyError("a\nb"), ZeroDivisionError(), OSError()]
)
def test_whatever_a_decoder_raises_becomes_ours(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    message = error_of(encoded(scene(), "PNG"))
    assert ("memory" if isinstance(raised, MemoryError) else "cannot be decoded") in message


@pytest.mark.parametrize("tail", [b"PK\x03\x04" + bytes(500), b"<script>alert(1)</script>", b"\0" * 5000])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF"])
def test_a_polyglot_is_the_image_that_it_starts_with(format_: str, tail: bytes) -> None:
    data = encoded(scene(), format_)
    assert read_image(data + tail).tobytes() == read_image(data).tobytes()


def test_no_pixels() -> None:
    assert "has no pixels (0x3)" in error_of(Image.new("RGB", (0, 3)))
    error_of(png(0, 3, png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b"")))


def test_much_junk_in_the_segments_of_a_jpeg() -> None:
    plain = encoded(scene(), "JPEG")
    junk = b"".join(b"\xff\xe2\xff\xffICC_PROFILE\0" + bytes((i + 1, 60)) + bytes(65519) for i in range(60))
    text = b"\xff\xfe\xff\xff" + b"x" * 65533
    assert read_image(plain[:2] + junk + text * 20 + plain[2:]).tobytes() == read_image(plain).tobytes()


# --- warnings


def warning_png() -> bytes:
    """Return a PNG at which Pillow warns: it says that it is an animation without frames."""
    return png(2, 2, png_chunk(b"acTL", struct.pack(">II", 0, 0)), pixels_and_end(2, 2))


def test_pillow_warnings_do_not_reach_the_user() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(warning_png())) as image:
            image.load()
        assert len(shown) == 1
        assert read_image(warning_png()).size == (2, 2)
        assert len(shown) == 1


def test_warnings_of_the_process_are_as_before_after_many_threads() -> None:
    before = list(warnings.filters)
    failed: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                assert read_image(warning_png()).size == (2, 2)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(warnings.filters) == before
    assert image_pillow._silence._n_users == 0


def test_the_file_is_closed_whatever_happens(tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(encoded(scene(), "PNG"))
    bad.write_bytes(encoded(detailed(), "PNG")[:3000])
    before = len(list(folder.iterdir()))
    for _ in range(5):
        read_image(good)
        error_of(bad)
    assert len(list(folder.iterdir())) == before


def test_importing_images_imports_neither_heif_nor_raw() -> None:
    code = "import sys, aesedge.image; print(sorted({'rawpy', 'pillow_heif', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
