"""Photos of tests: JPEGs drawn in code, with metadata as cameras and programs write them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from conftest import drawn_photo
from PIL import ExifTags, Image

if TYPE_CHECKING:
    from pathlib import Path


def jpeg(seed: int, *, size: tuple[int, int] = (160, 120), exif: Image.Exif | None = None) -> bytes:
    file = io.BytesIO()
    drawn_photo(seed, size).save(file, "JPEG", quality=90, **({} if exif is None else {"exif": exif}))
    return file.getvalue()


def capture(
    time: str, *, model: str = "Camera", subsec: str = "", exposure_s: float = 0.01, bias: float = 0.0
) -> Image.Exif:
    """Return what a camera writes: ``2026:11:30 10:00:00``, fraction of the second, exposure, compensation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = model
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = time
    if subsec:
        inner[ExifTags.Base.SubsecTimeOriginal] = subsec
    inner[ExifTags.Base.ExposureTime] = exposure_s
    inner[ExifTags.Base.ExposureBiasValue] = bias
    return exif


def with_metadata(data: bytes, text: bytes) -> bytes:
    """Return a JPEG with one more segment of metadata behind its start, as a rating that is written into it."""
    body = b"http://ns.adobe.com/xap/1.0/\0" + text
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def write_photos(folder: Path, n: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.jpg" for i in range(n)]
    for seed, path in enumerate(paths):
        path.write_bytes(jpeg(seed))
    return paths
