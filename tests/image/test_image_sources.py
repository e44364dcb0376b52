"""Where photos come from, and the limits that are checked before anything is decoded."""

import io
import os
import struct
from pathlib import Path

import pytest
from image_errors import error_of
from image_files import UNREADABLE, encoded, pixels_and_end, png, scene
from PIL import Image

from aesedge.errors import ImageError, ImageNotFoundError, ImageTooLargeError, UsageError
from aesedge.image import MAX_SIDE, read_image

# --- where a photo comes from


def test_path_bytes_stream_and_picture_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(scene(), "PNG"))
    with path.open("rb") as stream, Image.open(path) as opened:
        sources = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), stream, opened]
        assert [read_image(source).tobytes() for source in sources] == [scene().tobytes()] * len(sources)


def test_a_pipe_given_as_stream_is_read() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as sink:
        sink.write(encoded(scene(), "PNG"))
    with os.fdopen(reading, "rb") as stream:
        assert read_image(stream).tobytes() == scene().tobytes()


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    for name in ["a.png", "a.nef", "a.heic", "a.txt", "a"]:
        path = tmp_path / name
        path.write_bytes(encoded(scene(), "BMP"))
        assert read_image(path).tobytes() == scene().tobytes()


def test_no_such_file(tmp_path: Path) -> None:
    for path in [tmp_path / "none.jpg", tmp_path / "none" / "a.jpg", ""]:
        assert "there is no such file" in error_of(path, kind=ImageNotFoundError)
    (tmp_path / "file").write_bytes(b"x")
    error_of(tmp_path / "file" / "a.jpg", kind=ImageNotFoundError)


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder, not a photo; name the photos in it" in error_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "a device or a pipe" in error_of(tmp_path / "fifo")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(device: str) -> None:
    if not Path(device).exists():
        pytest.skip(f"no {device} here")
    assert "a device or a pipe" in error_of(device)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(scene(), "PNG"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # a test that runs as root may read everything
    assert "no permission to read it" in error_of(path)


@pytest.mark.parametrize("path", ["a\0b.jpg", "x" * 5000])
def test_an_impossible_path(path: str) -> None:
    assert "cannot be read" in error_of(path)


def test_a_name_cannot_break_the_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\x1b[31m.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).isprintable()
    assert "two\\nlines" in str(caught.value)


def test_sources_that_are_no_photo() -> None:
    assert "a int is no photo" in error_of(7, kind=UsageError)
    assert "open it in binary mode" in error_of(io.StringIO("x"), kind=UsageError)
    closed = io.BytesIO(b"x")
    closed.close()
    assert "closed file" in error_of(closed)


# --- limits


def test_pixels_are_checked_on_the_header(tmp_path: Path) -> None:
    jpeg = encoded(scene(), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5  # height and width follow
    headers = {
        "jpg": jpeg[:frame] + struct.pack(">HH", 20_000, 20_000) + jpeg[frame + 4 :],
        "png": png(20_000, 20_000, UNREADABLE),
        "gif": b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + bytes((0x80, 0, 0)) + bytes(6) + b"," + bytes(20),
        "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 20_000, 20_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "ppm": b"P6 20000 20000 255\n",
    }
    for suffix, header in headers.items():
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(header)
        for size_hint in (None, 56):
            message = error_of(path, kind=ImageTooLargeError, size_hint=size_hint)
            assert "20000x20000 is above the limit of 268435456 pixels; export the photo smaller" in message


def test_the_limit_of_pixels_is_the_last_size_that_passes() -> None:
    data = encoded(scene(60, 40), "PNG")
    assert read_image(data, max_pixels=2400).size == (60, 40)
    error_of(data, kind=ImageTooLargeError, max_pixels=2399)
    error_of(scene(60, 40), kind=ImageTooLargeError, max_pixels=2399)


def test_the_limit_of_a_side() -> None:
    assert read_image(png(MAX_SIDE, 1, pixels_and_end(MAX_SIDE, 1))).size == (MAX_SIDE, 1)
    assert f"the limit of {MAX_SIDE} pixels a side" in error_of(
        png(1, MAX_SIDE + 1, UNREADABLE), kind=ImageTooLargeError
    )


def test_bytes_are_checked_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)  # sparse: takes no room
    assert "is larger than the limit of 268435456 bytes" in error_of(path, kind=ImageTooLargeError)


def test_the_limit_of_bytes_is_the_last_size_that_passes() -> None:
    data = encoded(scene(), "PNG")
    for source in (data, io.BytesIO(data)):
        assert read_image(source, max_bytes=len(data)).size == (60, 40)
    for source in (data, io.BytesIO(data)):
        error_of(source, kind=ImageTooLargeError, max_bytes=len(data) - 1)


def test_an_endless_stream_is_read_to_the_limit_only() -> None:
    class Endless(io.RawIOBase):
        n_read = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0, "asked for all of it"
            self.n_read += size
            return bytes(size)

    endless = Endless()
    error_of(endless, kind=ImageTooLargeError, max_bytes=1000)
    assert endless.n_read <= 1001


def test_limits_of_the_process_are_neither_used_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # as if a phone's 200 MP photo met Pillow's own limit
    for format_ in ["JPEG", "MPO", "PNG", "GIF", "BMP", "PPM", "AVIF", "JPEG2000"]:
        assert read_image(encoded(scene(), format_), size_hint=7).mode == "RGB"
    assert Image.MAX_IMAGE_PIXELS == 10


def test_where_pillow_has_its_own_limit_inside_it_is_told_as_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:  # as TIFF and WebP do in newer versions of Pillow
        raise Image.DecompressionBombError("Image size (200000000 pixels) exceeds limit of 178956970 pixels")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", refuse)
    assert "more pixels than Pillow allows" in error_of(encoded(scene(), "PNG"), kind=ImageTooLargeError)
