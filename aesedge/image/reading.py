"""Read a photo from any source as an upright sRGB picture, within limits of bytes, pixels and memory."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from aesedge.errors import AesedgeError, ImageError, ImageTooLargeError
from aesedge.image.format import find_decoder
from aesedge.image.jpeg import read_jpeg
from aesedge.image.memory import BUDGET, jpeg_bytes, picture_bytes, tiff_bytes
from aesedge.image.picture import Picture
from aesedge.image.pillow import open_with_pillow, pillow_silenced
from aesedge.image.png import read_png
from aesedge.image.raw_and_heic import open_heif, read_raw
from aesedge.image.size_limits import MAX_BYTES, MAX_PIXELS, MAX_SIDE
from aesedge.image.source import Source, open_source, shown_name
from aesedge.image.tiff import read_tiff
from aesedge.image.upright_srgb import FULL_SIZE, SEEN, WARNINGS, Seen, to_upright_srgb
from aesedge.system.error_text import error_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from aesedge.image.jpeg_scan import JpegScan
    from aesedge.image.tiff_layout import TiffLayout

ImageSource = Source | Image.Image
"""A path, the file's bytes, a binary stream, or a picture that Pillow has opened."""

OVERSAMPLING = 2
"""A JPEG or RAW that will be shrunk is decoded with a long side of at least this many times ``size_hint``.

Measured by ``python tests/measure/measure_jpeg_draft.py``: after :func:`~aesedge.image.preprocess`, reduced and full
decode of a JPEG differ by at most 24 levels of 255 in any value and 1.5 levels on average, whatever the tower's size (a
test holds this); for photos of 12 and 24 MP and a tower of 336, by at most 8 and 0.4. With 1 instead of 2 the worst
photo differed by 66 and 2.1; with 4 the mean halved, and decoding took longer.
"""


def read_image(
    source: ImageSource,
    *,
    name: str | None = None,
    size_hint: int | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Read a photo as people see it: upright, sRGB, mode RGB, transparent parts white, the first frame of animations.

    Args:
        source: a path, the file's bytes, a binary stream, or a Pillow image (which is not changed).
        name: the photo's name in messages; by default its path.
        size_hint: side of the square that the photo will be resized to. JPEGs are then decoded at a half, a quarter or
            an eighth, and RAWs at half size, if ``OVERSAMPLING * size_hint`` pixels of the long side remain; in place
            of a RAW or HEIC, the camera's preview in it is decoded if it is as large (see :func:`seen_of`).
        max_bytes: limit of the file.
        max_pixels: limit of width times height, checked on the header before anything is decoded.

    Raises:
        ImageNotFoundError: there is no such file.
        ImageTooLargeError: a limit is passed.
        MissingExtraError: the photo is HEIC or RAW, and the extra ``photo`` is not installed.
        ImageError: the photo cannot be read for any other reason, which the message names.
        UsageError: the source is none of the types above.
    """
    name = shown_name(source, name)
    enough = None if size_hint is None else OVERSAMPLING * size_hint
    with pillow_silenced(), _errors_as_ours(name):
        if isinstance(source, Image.Image):
            _check_size(source.width, source.height, name, max_pixels)
            source.load()  # before the orientation is asked for: Pillow turns TIFF while it loads
            return to_upright_srgb(Picture(source), may_change=False)
        with open_source(source, name, max_bytes) as file, _Reading(file, name, enough, max_pixels) as reading:
            return to_upright_srgb(reading.picture(), may_change=True)


class _Reading(ExitStack):
    """A file being decoded; releases its reserved memory on exit."""

    def __init__(self, file: BinaryIO, name: str, enough: int | None, max_pixels: int) -> None:
        super().__init__()
        self._file, self._name, self._enough, self._max_pixels = file, name, enough, max_pixels

    def picture(self) -> Picture:
        """Decode the file with the decoder that fits its content."""
        match find_decoder(self._file, self._name):
            case "jpeg":
                self._file.seek(0)
                return read_jpeg(self._file.read(), self._name, self._enough, self._check_jpeg)
            case "png":
                return read_png(self._file, self._name, self._check_png)
            case "tiff":
                return read_tiff(self._file, self._name, self._check_tiff)
            case "raw":
                checks = (self._check_raw, self._check_jpeg)
                return read_raw(self._file, self._name, self._enough, *checks)
            case "heif":
                return self._loaded(open_heif(self._file, self._name, self._enough), format_="HEIF")
            case _:
                image = open_with_pillow(self._file)
                return self._loaded(image, format_=image.format)

    def _loaded(self, image: Image.Image, *, format_: str | None) -> Picture:
        self.enter_context(image)
        self._check_size(image.width, image.height)
        self._reserve(image.size, picture_bytes(*image.size, image.mode, format_=format_, is_turned=True))
        image.load()
        return Picture(image)

    def _check_jpeg(self, image: Image.Image, scan: JpegScan) -> None:
        self._check_size(scan.width or image.width, scan.height or image.height)
        self._reserve(image.size, jpeg_bytes(image, scan))

    def _check_tiff(self, layout: TiffLayout) -> None:
        self._check_size(layout.width, layout.height)
        self._reserve((layout.width, layout.height), tiff_bytes(layout))

    def _check_png(self, image: Image.Image, *, is_turned: bool, has_deep_key: bool) -> None:
        self._check_size(*image.size)
        n_bytes = picture_bytes(*image.size, image.mode, format_="PNG", is_turned=is_turned)
        self._reserve(image.size, n_bytes + (7 * image.width * image.height if has_deep_key else 0))

    def _check_raw(self, width: int, height: int) -> None:
        self._check_size(width, height)
        self._reserve((width, height), picture_bytes(width, height, "RGB", format_="RAW", is_turned=False))

    def _reserve(self, size: tuple[int, int], n_bytes: int) -> None:
        self.enter_context(BUDGET.reserved(n_bytes, f"{self._name}: {size[0]}x{size[1]}"))

    def _check_size(self, width: int, height: int) -> None:
        _check_size(width, height, self._name, self._max_pixels)


def warnings_of(image: Image.Image) -> tuple[str, ...]:
    """Return the warnings of :func:`read_image` about a photo's file: damage, and what was guessed or ignored."""
    warnings: tuple[str, ...] = image.info.get(WARNINGS, ())
    return warnings


def seen_of(image: Image.Image) -> Seen:
    """Return whether :func:`read_image` decoded the photo itself, or the preview that its camera put into the file."""
    seen: Seen = image.info.get(SEEN, "photo")
    return seen


def full_size_of(image: Image.Image) -> tuple[int, int]:
    """Return width and height of what :func:`read_image` decoded, before it was reduced."""
    size: tuple[int, int] = image.info.get(FULL_SIZE, image.size)
    return size


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise ImageError(f"{name}: has no pixels ({width}x{height}); export the photo again")
    limit = f"{max_pixels} pixels" if width * height > max_pixels else f"{MAX_SIDE} pixels a side"
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(f"{name}: {width}x{height} is above the limit of {limit}; export the photo smaller")


@contextmanager
def _errors_as_ours(name: str) -> Iterator[None]:
    """Turn any error of a decoder into an ImageError of one line that names the photo."""
    try:
        yield
    except AesedgeError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is not an image in a known format; export it as JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{name}: has more pixels than Pillow allows here; export it smaller") from error
    except MemoryError as error:
        raise ImageError(f"{name}: there is not enough memory to decode it; export the photo smaller") from error
    except Exception as error:  # decoders raise nearly every type there is on damaged files
        raise ImageError(f"{name}: cannot be decoded ({error_text(error)}); copy or export the photo again") from error
