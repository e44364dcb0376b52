"""Copy a large file, sharing its blocks where the file system can."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

_CHUNK_BYTES = 1 << 24
_FICLONE = 0x40049409  # linux/fs.h: share the blocks until one of the two files is written to


def place(source: Path, target: Path, *, link: bool = False, progress: Callable[[float], None]) -> None:
    """Copy a file to a new one.

    Where the file system shares blocks (btrfs, XFS, bcachefs), that takes no time and no room, and yet the two files
    are independent of each other.

    Args:
        source: the file; it is only read.
        target: the file to make.
        link: whether to make a hard link: one file under two names.
        progress: called with the share done, 0..1.

    Raises:
        UsageError: a hard link cannot be made there.
        OSError: the file cannot be read, or the disk is full.
    """
    progress(0.0)
    if link:
        try:
            target.hardlink_to(source.resolve())
        except OSError as error:
            raise UsageError(
                f"{target.parent}: no hard link to {source} can be made there ({error.strerror}); give a folder on the "
                "same disk, or import without --link"
            ) from None
        progress(1.0)
        return
    with source.open("rb") as given, target.open("xb") as made:
        if not _shared(given, made):
            n_total, n_done = max(1, source.stat().st_size), 0
            while chunk := given.read(_CHUNK_BYTES):
                made.write(chunk)
                n_done += len(chunk)
                progress(min(n_done / n_total, 0.999))
    progress(1.0)


def _shared(given: BinaryIO, made: BinaryIO) -> bool:
    """Clone the given file's blocks into the new file (reflink); return whether that was possible."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(made.fileno(), _FICLONE, given.fileno())
    except OSError:
        return False
    return True
