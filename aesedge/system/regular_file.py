"""Open user-supplied paths only if they are regular files; a FIFO or a device is an error, never a wait."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Opening a FIFO without a writer would block. Windows has no such flag, and no FIFOs among its files.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """Something is no regular file; ``strerror`` says what it is instead."""


def check_regular(path: Path, mode: int) -> None:
    """Check that a mode from ``stat`` is a regular file's.

    Raises:
        NotRegularError: it is something else.
    """
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")
        raise NotRegularError(errno.EINVAL, f"is {kind}, not a file", str(path))


def open_regular(path: Path, *, follow_links: bool = True) -> BinaryIO:
    """Open a file for reading, if it is a regular file.

    Args:
        path: the file.
        follow_links: whether a symbolic link may lead to it.

    Raises:
        NotRegularError: it is no regular file.
        OSError: it cannot be opened.
    """
    try:
        check_regular(path, path.stat(follow_symlinks=follow_links).st_mode)  # opening a device may do something
        flags = os.O_RDONLY | _NO_WAIT | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))
        handle = os.open(path, flags)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        check_regular(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def first_file(paths: Iterable[Path]) -> Path | None:
    """Return the first path that leads to a file, or None; names that no system takes lead to none."""
    return next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113 - Path.is_file may raise


def read_regular(path: Path, *, most_bytes: int, follow_links: bool = True) -> bytes:
    """Return the content of a small regular file.

    Args:
        path: the file.
        most_bytes: what it may be long.
        follow_links: whether a symbolic link may lead to it.

    Raises:
        OSError: it cannot be read, is no regular file, or is longer; ``strerror`` says so.
    """
    with open_regular(path, follow_links=follow_links) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"is longer than {most_bytes} bytes", str(path))
    return data
