"""Convert any Pillow mode, ICC profile, transparency and orientation to an upright sRGB picture, strip by strip."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import ExifTags, Image

from aesedge.image.icc import adobe_rgb_profile
from aesedge.image.levels import Range, to_levels

if TYPE_CHECKING:
    from PIL import ImageCms

    from aesedge.image.picture import Picture

BACKGROUND = (255, 255, 255)
"""Colour behind transparent pixels: white, like the paper of a print and of most web pages."""

FULL_SIZE = "aesedge.full_size"
"""Key in a picture's ``info``: width and height of the photo of which this picture is a reduced copy."""
SEEN = "aesedge.seen"
"""Key in a picture's ``info``: ``preview`` where it is the camera's preview of the photo in the file."""
Seen = Literal["photo", "preview"]
WARNINGS = "aesedge.warnings"
"""Key in a picture's ``info``: warnings about the photo's file, a tuple of sentences."""

STRIP_PIXELS = 2**20
"""Pixels that are converted at once, which bounds the memory of a conversion."""

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
_FROM_THE_END = (3, 4, 6, 7)  # orientations whose first rows come to lie at the lower or right edge


def to_upright_srgb(picture: Picture, *, may_change: bool) -> Image.Image:
    """Return the picture in mode RGB, upright, sRGB, over :data:`BACKGROUND`, without metadata.

    Orientation is EXIF's, or XMP's; EXIF that cannot be read says nothing. Without a profile, or with one that is
    broken or does not fit the picture, RGB and grey values are taken as sRGB.

    Args:
        picture: the decoded picture; warnings are added to it.
        may_change: whether its pixels may be overwritten, which saves memory.
    """
    image = picture.image
    orientation = _orientation(image)
    conversion = _Conversion(picture)
    info: dict[str | tuple[int, int], Any] = {
        key: value for key, value in image.info.items() if key in {FULL_SIZE, SEEN}
    }
    if FULL_SIZE in info and orientation >= 5:
        info[FULL_SIZE] = info[FULL_SIZE][::-1]
    stays = may_change and image.mode == "RGB" and orientation == 1
    upright = image if stays else Image.new("RGB", image.size if orientation < 5 else image.size[::-1])
    if not stays or conversion.is_needed:
        rows = max(1, STRIP_PIXELS // max(image.width, 1))
        for y in range(0, image.height, rows):
            box = (0, y, image.width, min(y + rows, image.height))
            strip = conversion(image.crop(box), picture.alpha and picture.alpha.crop(box))
            _paste_turned(upright, strip, y if orientation not in _FROM_THE_END else image.height - box[3], orientation)
    picture.warnings += conversion.warnings()
    if picture.warnings:
        info[WARNINGS] = tuple(dict.fromkeys(picture.warnings))
    # Without the rest: reading this picture again would apply profile and orientation twice.
    upright.info = info
    return upright


def _paste_turned(upright: Image.Image, strip: Image.Image, place: int, orientation: int) -> None:
    if orientation != 1:
        strip = strip.transpose(_TRANSPOSE[orientation])
    upright.paste(strip, (0, place) if orientation < 5 else (place, 0))


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - hostile EXIF raises almost anything; the pixels are still a photo
        return 1
    return int(orientation) if orientation in _TRANSPOSE else 1


def is_adobe_rgb(image: Image.Image) -> bool:
    """Return whether EXIF says that the colours are Adobe RGB, as cameras do (DCF) that write no profile."""
    try:
        return str(image.getexif().get_ifd(ExifTags.IFD.Interop).get(1, "")).startswith("R03")
    except Exception:  # noqa: BLE001 - as above
        return False


class _Conversion:
    """Turns strips of one picture into sRGB without transparency."""

    def __init__(self, picture: Picture) -> None:
        image = picture.image
        self._is_transparent = image.has_transparency_data or _has_deep_key(image)
        self._white, warnings = _white_of(image)
        picture.warnings += warnings
        self._to_srgb = self._through_profile(picture)
        self._is_hidden = self._is_transparent or picture.alpha is not None  # until something is seen
        self.is_needed = image.mode != "RGB" or self._is_hidden or self._to_srgb is not None

    def _through_profile(self, picture: Picture) -> _Profile | None:
        icc, mode = picture.image.info.get("icc_profile"), _color_mode(picture.image)
        if isinstance(icc, bytes) and icc:
            profile = _Profile.of(icc, mode)
            if isinstance(profile, _Profile):
                return profile
            picture.warnings.append(profile)
        elif mode == "RGB" and is_adobe_rgb(picture.image):
            profile = _Profile.of(adobe_rgb_profile(), mode)
            return profile if isinstance(profile, _Profile) else None
        return _Profile.of_lab() if mode == "LAB" else None

    def __call__(self, strip: Image.Image, alpha: Image.Image | None) -> Image.Image:
        """Return a strip's colours in sRGB, over white where it is transparent."""
        color, own_alpha = self._split_alpha(strip)
        alpha = alpha or own_alpha
        if self._to_srgb is not None:
            color = self._to_srgb(color)
        elif color.mode != "RGB":
            color = color.convert("RGB")
        if alpha is None:
            return color
        least, most = alpha.getextrema()
        self._is_hidden &= most == 0
        if least == 255:
            return color
        return Image.composite(color, Image.new("RGB", color.size, BACKGROUND), alpha)

    def _split_alpha(self, strip: Image.Image) -> tuple[Image.Image, Image.Image | None]:
        """Return a strip's colours of 8 bits, not premultiplied, and its opacity."""
        if strip.mode.startswith("I;16") or strip.mode in {"I", "F"}:
            samples = np.asarray(strip)
            levels = Image.fromarray(to_levels(samples, self._white))
            if not _has_deep_key(strip):
                return levels, None
            return levels, Image.fromarray(np.where(samples == strip.info["transparency"], 0, 255).astype(np.uint8))
        if not self._is_transparent:
            return strip, None
        grey = strip.mode in {"LA", "La"}
        layers = strip.convert("LA" if grey else "RGBA")
        return layers.getchannel("L") if grey else layers.convert("RGB"), layers.getchannel("A")

    def warnings(self) -> list[str]:
        """Return the warnings after all strips are converted."""
        return ["it is transparent everywhere: what is judged is white"] if self._is_hidden else []


def _has_deep_key(image: Image.Image) -> bool:
    """Return whether one value of a picture of 16 bits stands for transparency (PNG), which Pillow does not apply."""
    return image.mode.startswith("I") and isinstance(image.info.get("transparency"), int)


def _white_of(image: Image.Image) -> tuple[float, list[str]]:
    """Return the white level of a deep mode, which Pillow would clip at 255, and warnings."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # BitsPerSample; Pillow opens 12-bit TIFF as I;16 too
        return 2**bits - 1, []
    if image.mode == "I" and image.format == "PPM":  # Pillow has scaled it
        return 2**16 - 1, []
    if image.mode not in {"I", "F"}:
        return 255, []
    found, kind = Range(), "i" if image.mode == "I" else "f"
    rows = max(1, STRIP_PIXELS // max(image.width, 1))
    for y in range(0, image.height, rows):
        found.add(np.asarray(image.crop((0, y, image.width, min(y + rows, image.height)))))
    return found.white(kind), found.warnings(kind)


def _color_mode(image: Image.Image) -> str:
    """Return the mode of a picture's colours: L, RGB, CMYK or LAB."""
    if image.mode in {"L", "LA", "La", "1", "F"} or image.mode.startswith("I"):
        return "L"
    return image.mode if image.mode in {"CMYK", "LAB"} else "RGB"


class _Profile:
    """A conversion to sRGB by an ICC profile, perceptual intent.

    Args:
        profile: an ``ImageCmsProfile``.
        mode: of the pictures that come.
    """

    def __init__(self, profile: ImageCms.ImageCmsProfile, mode: str) -> None:
        from PIL import ImageCms

        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        self._mode = mode
        self._apply = ImageCms.applyTransform
        self._transform = ImageCms.buildTransform(profile, srgb, mode, "RGB", ImageCms.Intent.PERCEPTUAL)

    @classmethod
    def of(cls, icc: bytes, mode: str) -> _Profile | str:
        """Return the conversion by an embedded profile, or a warning that it cannot be used."""
        from PIL import ImageCms

        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            space = profile.profile.xcolor_space
            # Greyscale may carry the profile of the RGB photo that it was.
            wanted = "RGB" if mode == "L" and _MODE_OF_SPACE.get(space) == "RGB" else mode
            if _MODE_OF_SPACE.get(space) != wanted:
                return (
                    f"its colour profile is for {space.strip() or 'unknown'} colours, not for its own, and is ignored"
                )
            return cls(profile, wanted)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            return "its colour profile is damaged and is ignored"

    @classmethod
    def of_lab(cls) -> _Profile:
        """Return the conversion of Lab without a profile."""
        from PIL import ImageCms

        return cls(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")

    def __call__(self, strip: Image.Image) -> Image.Image:
        converted = self._apply(strip if strip.mode == self._mode else strip.convert(self._mode), self._transform)
        if converted is None:  # only with inPlace, which is not asked for
            raise ValueError("the colour conversion gave no picture")
        return converted
