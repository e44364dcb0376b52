"""The photos in a folder, by suffix; knows names, not what is in the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PHOTO_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".jp2"),
        *(".heic", ".heif", ".hif"),
        *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr"),
    )
)
"""What cameras and photo programs write; a file with another suffix can still be named by itself."""


def photos_in(folder: Path) -> Iterator[Path]:
    """Yield the photos in a folder and the folders below it, sorted by name, hidden ones left out.

    Links to folders are not followed: they may lead in a circle.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES:
                yield Path(parent) / name
