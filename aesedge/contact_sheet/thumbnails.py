"""Make the small pictures of a contact sheet, and large ones of photos that browsers do not show."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from PIL import Image

from aesedge.errors import AesedgeError, ImageError
from aesedge.image import read_image
from aesedge.system.atomic_file import write_atomic
from aesedge.system.error_text import error_text
from aesedge.system.ordered_map import map_ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_SMALL, _LARGE = 320, 1600
"""Long sides: of a thumbnail, and of a preview."""
_QUALITY = 75


def thumbnail(photo: str, side: int = _SMALL) -> bytes:
    """Return a photo as a small WebP.

    Raises:
        ImageError: it cannot be read.
    """
    image = read_image(photo, size_hint=side)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def write_pictures(wanted: Iterable[tuple[str, Path, bool]], done: Callable[[str, AesedgeError | None], None]) -> None:
    """Write thumbnails and previews that are not there yet, several at a time.

    Args:
        wanted: each photo, the file to make, and whether it is a large preview.
        done: called for each, in order, with what went wrong.
    """
    for (photo, _, _), outcome in map_ordered(wanted, _write, at_once=max(2, os.cpu_count() or 1)):
        done(photo, outcome if isinstance(outcome, AesedgeError) else None)


def _write(wanted: tuple[str, Path, bool]) -> None:
    photo, path, is_large = wanted
    if path.exists():  # named after the photo's content
        return
    data = thumbnail(photo, _LARGE if is_large else _SMALL)
    try:
        write_atomic(path, data, own=True)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error_text(error)}") from None
