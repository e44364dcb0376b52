"""Any Pillow mode, profile, transparency and orientation to a plain upright sRGB picture; knows nothing of files."""

from __future__ import annotations

import io

import numpy as np
from PIL import ExifTags, Image

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, the paper of a print and of most pages."""

FULL_SIZE = "aesedge.full_size"
"""Key in a picture's ``info``: width and height of the photo that this picture is a reduced copy of."""

_MODE_OF_SPACE = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}  # ICC colour space: Pillow mode
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Return a loaded image as the EXIF orientation (or XMP's) says it is to be seen; unreadable EXIF says nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        transpose = _TRANSPOSE.get(orientation)
    except Exception:  # noqa: BLE001 - hostile EXIF raises almost anything; the pixels are still a photo
        transpose = None
    if transpose is None:
        return image
    turned = image.transpose(transpose)
    if FULL_SIZE in turned.info and orientation >= 5:
        turned.info[FULL_SIZE] = turned.info[FULL_SIZE][::-1]
    return turned


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the picture in mode RGB, sRGB, over :data:`BACKGROUND`, without metadata.

    Without a profile, or with one that is broken or does not fit the picture, RGB and grey values are taken as sRGB.
    """
    icc = image.info.get("icc_profile")
    color, alpha = _split_alpha(_eight_bit(image))
    picture = _through_profile(color, icc) if isinstance(icc, bytes) and icc else None
    if picture is None:
        picture = _without_profile(color)
    if alpha is not None:
        picture = Image.composite(picture, Image.new("RGB", picture.size, BACKGROUND), alpha)
    if picture is image:
        picture = image.copy()
    # Without the rest: whoever reads this picture again would apply profile and orientation twice.
    picture.info = {key: value for key, value in image.info.items() if key == FULL_SIZE}
    return picture


def _eight_bit(image: Image.Image) -> Image.Image:
    """Bring deep grey modes to L; Pillow's own conversion clips at 255 instead of scaling.

    16 bits lose their low byte, as Pillow does for RGB. Modes I and F do not say what white is: it is the smallest of
    255, 65535, 2**31 - 1 (F: of 1, 255, its maximum) that covers the picture.
    """
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # BitsPerSample; Pillow opens 12-bit TIFF as I;16 too
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    if image.mode == "I":
        whole = np.maximum(np.asarray(image), 0)
        top = int(whole.max())
        return Image.fromarray((whole >> (0 if top <= 255 else 8 if top <= 65535 else 23)).astype(np.uint8))
    if image.mode == "F":
        real = np.maximum(np.nan_to_num(np.asarray(image), posinf=0.0), 0)
        brightest = float(real.max())
        scale = 255 if brightest <= 1 else 255 / max(brightest, 255)
        return Image.fromarray((real * scale).round().astype(np.uint8))
    return image


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours, not premultiplied, and the opacity (None where all is opaque)."""
    if not image.has_transparency_data:
        return image, None
    grey = image.mode in {"LA", "La"}
    layers = image.convert("LA" if grey else "RGBA")
    alpha = layers.getchannel("A")
    color = layers.getchannel("L") if grey else layers.convert("RGB")
    return color, None if alpha.getextrema() == (255, 255) else alpha


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Convert by the embedded profile, perceptual intent; None if the profile is broken or of another colour space."""
    from PIL import ImageCms

    if image.mode not in {"L", "CMYK", "LAB"}:
        image = image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = _MODE_OF_SPACE.get(profile.profile.xcolor_space)
        if mode == "RGB" and image.mode == "L":  # greyscale saved with the profile of the RGB photo it was
            image = image.convert("RGB")
        if mode != image.mode:
            return None
        intent = ImageCms.Intent.PERCEPTUAL
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def _without_profile(image: Image.Image) -> Image.Image:
    if image.mode != "LAB":
        return image if image.mode == "RGB" else image.convert("RGB")
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    picture = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if picture is None:  # only with inPlace, which is not asked for
        raise ValueError("LAB conversion gave no picture")
    return picture
