"""Recognise Git LFS pointers: the small text that Git leaves in place of a large file that was not fetched."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.errors import AesedgeError

N_START_BYTES = 48
"""As many bytes of a file as :func:`is_git_lfs_pointer` needs."""
_STARTS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",  # before its first release; Git LFS reads these still
    b"version http://git-media.io/v/",
)


def is_git_lfs_pointer(start: bytes) -> bool:
    """Return whether a file that begins so is a pointer and not the file itself."""
    return start.startswith(_STARTS)


def git_lfs_problem(name: object) -> str:
    """Return what to say about a pointer: what it is, and how to get the file."""
    return f"{name}: is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"


def refuse_git_lfs_pointer(path: Path, error: type[AesedgeError]) -> None:
    """Raise an error if a file is a pointer; unreadable and non-regular files are ignored.

    Args:
        path: the file.
        error: what is raised.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait
            return
        with path.open("rb") as file:
            start = file.read(N_START_BYTES)
    except (OSError, ValueError):
        return
    if is_git_lfs_pointer(start):
        raise error(git_lfs_problem(path))
