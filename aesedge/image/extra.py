"""Decode HEIC and camera RAW with the packages of the extra ``photo``, imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from aesedge.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable


def open_heif(file: BinaryIO, name: str) -> Image.Image:
    """Open a HEIC file, its header only; libheif turns the picture upright when it is loaded."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingExtraError(f"{name} is a HEIC photo", "photo") from error
    file.seek(0)
    image: Image.Image = HeifImageFile(file, "")
    return image


def read_raw(file: BinaryIO, name: str, *, enough: int | None, check_size: Callable[[int, int], None]) -> Image.Image:
    """Develop a camera RAW: the camera's white balance, sRGB, upright, exposure as it was taken.

    LibRaw would brighten each photo until 1 % of it is white; here it must not, or an underexposed photo could not be
    told from a good one. Photos may therefore look darker than in the JPEG that the camera made of them.

    Args:
        file: the RAW file.
        name: the photo's name, for messages.
        enough: the long side that is enough; a photo of twice that is developed at half size, without demosaicing.
        check_size: called with width and height before anything is decoded.
    """
    try:
        import rawpy
    except ImportError as error:
        raise MissingExtraError(f"{name} is a camera RAW photo", "photo") from error
    file.seek(0)
    raw: Any
    with rawpy.imread(file) as raw:
        check_size(raw.sizes.raw_width, raw.sizes.raw_height)
        half_size = enough is not None and max(raw.sizes.width, raw.sizes.height) // 2 >= enough
        pixels = raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            half_size=half_size,
            output_color=rawpy.ColorSpace.sRGB,
            gamma=(2.4, 12.92),  # sRGB's curve; LibRaw's own default is that of television
        )
    return Image.fromarray(pixels)
