"""Read from a photo's metadata when, with which camera and with which exposure it was taken."""

from __future__ import annotations

import io
import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import ExifTags, Image

if TYPE_CHECKING:
    from typing import BinaryIO

_HEAD_BYTES = 256 << 10
_TIFF_LIKE = {b"IIRO": b"II*\0", b"IIRS": b"II*\0", b"IIU\0": b"II*\0", b"MMOR": b"MM\0*"}  # Olympus, Panasonic
Tag = ExifTags.Base
_MOST_EXPOSURE_S = 86_400.0


class Capture(NamedTuple):
    """What a camera writes about a photo; None where it is not there."""

    taken_at: float | None = None
    """Seconds since 1970 of the camera's clock."""
    camera: str | None = None
    exposure_s: float | None = None
    exposure_ev: float | None = None


def read_capture(path: str) -> Capture:
    """Return what a file's metadata say; nothing, where they cannot be read."""
    try:
        with Path(path).open("rb") as file:
            base, inner = _directories(file)
    except Exception:  # noqa: BLE001 - hostile metadata raise almost anything; the photo is judged all the same
        return Capture()
    names = [_text(base.get(Tag.Make)), _text(base.get(Tag.Model)), _text(inner.get(Tag.BodySerialNumber))]
    exposure_s = _number(inner.get(Tag.ExposureTime))
    return Capture(
        _seconds(_text(inner.get(Tag.DateTimeOriginal)), _text(inner.get(Tag.SubsecTimeOriginal))),
        "|".join(names) if any(names) else None,
        exposure_s if exposure_s is not None and 0 < exposure_s <= _MOST_EXPOSURE_S else None,
        _number(inner.get(Tag.ExposureBiasValue)),
    )


def orientation_of(path: str) -> int:
    """Return EXIF's orientation of a photo, 1 where it has none."""
    try:
        with Path(path).open("rb") as file:
            found = _directories(file)[0].get(Tag.Orientation, 1)
    except Exception:  # noqa: BLE001 - as above
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _directories(file: BinaryIO) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return the tags of a photo's first EXIF directory, and those of the one with the exposure."""
    head = file.read(32)
    if head.startswith(b"FUJIFILMCCD-RAW"):
        file.seek(84)
        start, length = struct.unpack(">II", file.read(8))
        file.seek(start)
        return _directories(io.BytesIO(file.read(min(length, _HEAD_BYTES))))
    if head[4:12] == b"ftypcrx ":
        file.seek(0)
        return _of_cr3(file.read(_HEAD_BYTES))
    exif = Image.Exif()
    if head[:4] in _TIFF_LIKE:
        file.seek(4)
        exif.load_from_fp(io.BytesIO(_TIFF_LIKE[head[:4]] + file.read(_HEAD_BYTES)))
    elif head[:4] in {b"II*\0", b"MM\0*"}:
        file.seek(0)
        exif.load_from_fp(file)
    else:
        file.seek(0)
        with _opened(file, is_heif=head[4:8] == b"ftyp" and head[8:12] not in {b"avif", b"avis"}) as image:
            exif = image.getexif()
            return dict(exif), dict(exif.get_ifd(ExifTags.IFD.Exif))
    return dict(exif), dict(exif.get_ifd(ExifTags.IFD.Exif))


def _opened(file: BinaryIO, *, is_heif: bool) -> Image.Image:
    """Return a photo of which the header alone is read."""
    if is_heif:
        from pillow_heif import HeifImageFile

        image: Image.Image = HeifImageFile(file, "")
        return image
    return Image.open(file)


def _of_cr3(head: bytes) -> tuple[dict[int, Any], dict[int, Any]]:
    """Read Canon's CR3, whose boxes CMT1 and CMT2 hold the two directories as a TIFF each."""
    found: list[dict[int, Any]] = []
    for name in (b"CMT1", b"CMT2"):
        at = head.find(name)
        size = int.from_bytes(head[at - 4 : at], "big") if at >= 4 else 0
        exif = Image.Exif()
        if size > 8:
            exif.load_from_fp(io.BytesIO(head[at + 4 : at - 4 + size]))
        found.append(dict(exif))
    return found[0], found[1]


def _text(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return " ".join(text.replace("\0", " ").split())[:100]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if abs(number) < 1e9 else None


def _seconds(text: str, fraction: str) -> float | None:
    try:
        whole = datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:  # none, or 0000:00:00 of a camera whose clock was not set
        return None
    return whole + (float(f"0.{fraction}") if fraction.isascii() and fraction.isdecimal() else 0.0)
