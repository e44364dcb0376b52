"""Write files atomically."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


def write_atomic(path: Path, data: bytes, *, own: bool = False) -> None:
    """Write a file of this content, see :func:`open_atomic`."""
    with open_atomic(path, own=own) as file:
        file.write(data)


@contextmanager
def open_atomic(path: Path, *, own: bool = False) -> Iterator[BinaryIO]:
    """Open a file under a temporary name beside its own, and move it into place at the end of the block.

    It gets the permissions of a new file of the user, or of the file it replaces. If the block raises, nothing changes.

    Args:
        path: the file; a link is followed, and a device or a pipe is written into.
        own: whether the path belongs to aesedge alone: a link, a device or a pipe there is replaced.

    Raises:
        OSError: the folder cannot be written; the old file stays.
    """
    if not own and path.exists() and not path.is_file():  # a device, a pipe: to put a file in its place would remove it
        with path.open("wb") as file:
            yield file
        return
    if not own:
        path = Path(os.path.realpath(path))  # a link stays, and leads to the new file
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    # mkstemp would make it unreadable for other users.
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        if path.is_file():
            part.chmod(path.stat().st_mode)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
