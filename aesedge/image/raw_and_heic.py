"""Decode HEIC and camera RAW with the packages of the extra ``photo``, imported on first use.

Cameras put a finished JPEG into a RAW, with their own tone curve, white balance and picture style: what the
photographer saw. Where it is large enough it is taken in place of developing the RAW, which takes twenty times as long.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import ExifTags, Image

from aesedge.errors import ImageError, MissingExtraError
from aesedge.image.icc import adobe_rgb_profile
from aesedge.image.jpeg import read_jpeg
from aesedge.image.picture import Picture
from aesedge.image.upright_srgb import FULL_SIZE, SEEN, is_adobe_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.image.jpeg_scan import JpegScan

_ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}  # LibRaw's numbers to EXIF's


def open_heif(file: BinaryIO, name: str, enough: int | None) -> Image.Image:
    """Open a HEIC file, its header only; libheif turns the picture upright when it is loaded.

    Args:
        file: the HEIC file.
        name: the photo's name, for messages.
        enough: the long side that is enough: a preview in the file that has it is opened in place of the photo.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingExtraError(f"{name} is a HEIC photo", "photo") from error
    file.seek(0)
    image: Image.Image = HeifImageFile(file, "")
    width, height = image.size
    if enough is not None and enough < max(width, height):
        size = (width * enough // max(width, height), height * enough // max(width, height))
        # Older versions of pillow-heif know no previews, and return None.
        if image.draft(image.mode, size) is not None:
            image.info |= {SEEN: "preview", FULL_SIZE: (width, height)}
    return image


def read_raw(
    file: BinaryIO,
    name: str,
    enough: int | None,
    check_size: Callable[[int, int], None],
    check_preview: Callable[[Image.Image, JpegScan], None],
) -> Picture:
    """Read the camera's preview in a RAW, or develop the RAW: the camera's white balance, sRGB, exposure as taken.

    LibRaw would brighten each photo until 1 % of it is white; here it must not, or an underexposed photo could not be
    told from a good one. A photo that is developed may therefore look darker than its preview.

    Args:
        file: the RAW file.
        name: the photo's name, for messages.
        enough: the long side that is enough; a preview that has it is taken. A photo of twice that is developed at half
            size, without demosaicing. None develops all pixels.
        check_size: called with width and height before a RAW is developed.
        check_preview: called with the preview before it is decoded, see :func:`aesedge.image.jpeg.read_jpeg`.
    """
    try:
        import rawpy
    except ImportError as error:
        raise MissingExtraError(f"{name} is a camera RAW photo", "photo") from error
    file.seek(0)
    raw: Any
    with rawpy.imread(file) as raw:
        preview = None if enough is None else _preview(raw, rawpy, name, enough, check_preview)
        if preview is not None:
            _add_what_the_raw_says(preview.image, raw.sizes.flip, file)
            return preview
        check_size(raw.sizes.raw_width, raw.sizes.raw_height)
        half_size = enough is not None and max(raw.sizes.width, raw.sizes.height) // 2 >= enough
        pixels = raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            half_size=half_size,
            output_color=rawpy.ColorSpace.sRGB,
            gamma=(2.4, 12.92),  # sRGB's curve; LibRaw's own default is that of television
        )
    return Picture(Image.fromarray(pixels))


def _preview(
    raw: Any, rawpy: Any, name: str, enough: int, check: Callable[[Image.Image, JpegScan], None]
) -> Picture | None:
    """Return the largest preview in a RAW; None where there is none, or it is too small, damaged or no JPEG."""
    try:
        found = raw.extract_thumb()
        if found.format != rawpy.ThumbFormat.JPEG:
            return None
        data = _without_added_exif(bytes(found.data))
        with Image.open(io.BytesIO(data)) as header:
            if max(header.size) < enough:
                return None
        picture = read_jpeg(data, f"the preview in {name}", enough, check)
    except (rawpy.LibRawError, ImageError, OSError, SyntaxError, ValueError):
        return None
    picture.image.info[SEEN] = "preview"
    return picture


def _without_added_exif(data: bytes) -> bytes:
    """Return a preview without the EXIF that LibRaw puts before its own, where it has one behind another segment."""
    at, found = 2, []
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in {b"\xda", b""}:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0" and data[at + 10 : at + 12] in {b"II", b"MM"}:
            found.append((at, end))
        at = end
    return data[: found[0][0]] + data[found[0][1] :] if len(found) > 1 else data


def _add_what_the_raw_says(preview: Image.Image, flip: int, file: BinaryIO) -> None:
    """Give a preview the orientation and the colour space that stand in the RAW, where it has none of its own."""
    exif = preview.getexif()
    if ExifTags.Base.Orientation not in exif:
        exif[ExifTags.Base.Orientation] = _ORIENTATION_OF_FLIP.get(flip, 1)
    if not preview.info.get("icc_profile") and preview.mode == "RGB" and not is_adobe_rgb(preview):
        outside = Image.new("RGB", (1, 1))
        try:
            file.seek(0)
            outside.getexif().load_from_fp(file)
        except Exception:  # noqa: BLE001 - a RAW that is no TIFF, or a damaged one: its preview is taken as it is
            return
        if is_adobe_rgb(outside):
            preview.info["icc_profile"] = adobe_rgb_profile()
