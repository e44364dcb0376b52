"""A photo from anywhere to an upright sRGB picture, within limits; knows decoders and errors, nothing of towers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from aesedge.errors import AesedgeError, ImageError, ImageTooLargeError
from aesedge.image.color import FULL_SIZE, to_srgb, upright
from aesedge.image.extra import open_heif, read_raw
from aesedge.image.format import find_decoder
from aesedge.image.pillow import open_with_pillow, pillow_silenced
from aesedge.image.source import Source, open_source, shown_name
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

ImageSource = Source | Image.Image
"""A path, the file's bytes, a binary stream, or a picture that Pillow has opened."""

MAX_BYTES = 256 * 2**20
"""Default limit of a file: above every camera's RAW, and small enough to be held in memory."""
MAX_PIXELS = 2**28
"""Default limit of pixels: the 200 MP of phones fit, and the decoded picture takes at most 1 GiB (4 bytes a pixel).
TIFF and WebP end at 179 MP: newer versions of Pillow have their own limit inside those decoders."""
MAX_SIDE = 32_768
"""Limit of either side: to make a strip of that length square and small takes seconds, and four times that for twice
the length."""

OVERSAMPLING = 2
"""A JPEG or RAW that will be shrunk is decoded with a long side of at least this many times ``size_hint``.

Measured by ``python tests/measure_jpeg_draft.py``: after :func:`~aesedge.image.preprocess`, reduced and full decode of
a JPEG differ by at most 24 levels of 255 in any value and 1.5 levels on average, whatever the tower's size (a test
holds this); for photos of 12 and 24 MP and a tower of 336, by at most 8 and 0.4. With 1 instead of 2 the worst photo
differed by 66 and 2.1; with 4 the mean halved, and decoding took longer.
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
        source: a path, the file's bytes, a binary stream, or a Pillow image (which stays as it is).
        name: how messages call the photo; by default its path.
        size_hint: the square side that the photo will be shrunk to. JPEGs are then decoded at a half, a quarter or an
            eighth, and RAWs at half size, where at least ``OVERSAMPLING * size_hint`` pixels of the long side remain.
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
            return _finish(source)
        with open_source(source, name, max_bytes) as file, _decode(file, name, enough, max_pixels) as image:
            return _finish(image)


@contextmanager
def _decode(file: BinaryIO, name: str, enough: int | None, max_pixels: int) -> Iterator[Image.Image]:
    """Give the picture of a file, its pixels not loaded yet where the decoder can wait."""
    decoder = find_decoder(file, name)
    if decoder == "raw":
        yield read_raw(file, name, enough=enough, check_size=lambda w, h: _check_size(w, h, name, max_pixels))
        return
    with open_heif(file, name) if decoder == "heif" else open_with_pillow(file) as image:
        _check_size(image.width, image.height, name, max_pixels)
        yield _reduce_jpeg(image, enough) if enough is not None and isinstance(image, JpegImageFile) else image


def _finish(image: Image.Image) -> Image.Image:
    image.load()  # before the orientation is asked for: Pillow turns TIFF while it loads
    return to_srgb(upright(image))


def _reduce_jpeg(image: JpegImageFile, enough: int) -> Image.Image:
    """Let the decoder leave out what shrinking would average away, as far as ``enough`` pixels remain."""
    width, height = image.size
    scale = next((s for s in (8, 4, 2) if max(width, height) // s >= enough), 1)
    drafted = image.draft(None, (max(width // scale, 1), max(height // scale, 1))) if scale > 1 else None
    if drafted is None:
        return image
    image.info[FULL_SIZE] = (width, height)
    box = drafted[1]
    if box[2].is_integer() and box[3].is_integer():
        return image
    # The reduced pixels at the right and lower edge are partly beyond the photo: let the pixels be the photo alone.
    return image.resize(image.size, Image.Resampling.LANCZOS, box=box)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise ImageError(f"{name}: has no pixels ({width}x{height}); export the photo again")
    limit = f"{max_pixels} pixels" if width * height > max_pixels else f"{MAX_SIDE} pixels a side"
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(f"{name}: {width}x{height} is above the limit of {limit}; export the photo smaller")


@contextmanager
def _errors_as_ours(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the photo."""
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
        reason = sanitize(" ".join(str(error).split())[:200]) or type(error).__name__
        raise ImageError(f"{name}: cannot be decoded ({reason}); copy or export the photo again") from error
