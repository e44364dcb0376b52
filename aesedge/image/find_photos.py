"""Find the photos in a folder by suffix, skipping what systems and photo programs store beside them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RAW_SUFFIXES = frozenset(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
        *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    )
)
"""Suffixes of camera RAW files, which LibRaw develops."""
PHOTO_SUFFIXES = RAW_SUFFIXES | frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".tif", ".tiff", ".webp", ".avif", ".avifs"),
        *(".heic", ".heics", ".heif", ".heifs", ".hif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        *(".bmp", ".dib", ".gif", ".tga", ".psd", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
"""Suffixes that are searched for in folders; all can be read (HEIC and RAW with the extra ``photo``).

A file given by its own path is recognised by its content, whatever its suffix.
"""

_NO_PHOTOS = frozenset(
    name.casefold()
    for name in (
        *("@eaDir", "@tmp", "@sharebin", "#recycle", "#snapshot"),  # Synology; previews of each photo in @eaDir
        *("@Recycle", "@Recently-Snapshot", "Network Recycle Bin 1"),  # QNAP
        *("~snapshot", "trashbox", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder"),  # shares
        *("$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "$WinREAgent"),  # Windows
        *("lost+found", "__MACOSX"),  # Linux; macOS's copies in ZIP archives
        *("CaptureOne", "THMBNL"),  # previews of Capture One, and of Sony's videos
    )
)
_FOUND_BY_CHKDSK = re.compile(r"found\.\d{3}")
_LIBRARY_SUFFIXES = frozenset((".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary"))  # Apple
_PROGRAM_SUFFIXES = _LIBRARY_SUFFIXES | {".lrdata", ".lrcat-data", ".cocatalog", ".cocatalogdb", ".cosessiondb"}
"""Of folders that a photo program keeps for itself: previews, thumbnails, edits."""
_ORIGINALS = frozenset(("originals", "masters"))


def _raise(error: OSError) -> None:
    raise error


def photos_in(folder: Path, on_error: Callable[[OSError], None] = _raise) -> Iterator[Path]:
    """Yield the photos in a folder and the folders below it, sorted by name.

    Skipped are hidden files and folders, and those of systems and programs (trash, previews, catalogues). In an Apple
    photo library only the originals are searched. Links to folders are not followed: they may form a loop.

    Args:
        folder: the folder to search.
        on_error: called with the error of each folder that cannot be read (``filename`` is the folder); by default it
            is raised.
    """
    for parent, names in photo_names_in(folder, on_error):
        yield from (Path(parent) / name for name in names)


def photo_names_in(folder: Path, on_error: Callable[[OSError], None] = _raise) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with the names of the photos in it, see :func:`photos_in`; to make paths takes longer."""
    is_library = folder.suffix.lower() in _LIBRARY_SUFFIXES
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not _is_kept_by_programs(name))
        if is_library and Path(parent) == folder:
            folders[:] = [name for name in folders if name.lower() in _ORIGINALS]
        yield parent, [name for name in sorted(names) if not name.startswith(".") and suffix_of(name) in PHOTO_SUFFIXES]


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name or path in lower case; much faster than a Path for each of thousands."""
    _, dot, end = name.rpartition(".")
    return dot + end.lower()


def _is_kept_by_programs(name: str) -> bool:
    """Return whether a folder of this name belongs to a system or a program, not to the photographer."""
    folded = name.casefold()
    return (
        name.startswith(".")
        or folded in _NO_PHOTOS
        or Path(folded).suffix in _PROGRAM_SUFFIXES
        or _FOUND_BY_CHKDSK.fullmatch(folded) is not None
    )
