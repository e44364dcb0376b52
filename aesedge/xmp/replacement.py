"""Replace a file only if it is still what was read: written under another name, synced, compared, moved into place."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from aesedge.errors import XmpError
from aesedge.system.error_text import error_text
from aesedge.system.regular_file import open_regular
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from pathlib import Path

_TEMPORARY = ".aesedge-"
MOST_BYTES = 2**29
"""Of a JPEG that is written into; sidecars have limits of their own."""


class ChangedError(XmpError):
    """Another program has changed a file since it was read."""


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes | None:
    """Return a file's content, None if there is none.

    Args:
        path: the file.
        most_bytes: what it may be long.

    Raises:
        XmpError: it cannot be read, or is longer.
    """
    try:
        with open_regular(path) as file:
            data = file.read(most_bytes + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise XmpError(f"{sanitize(str(path))}: cannot be read: {error_text(error)}") from None
    if len(data) > most_bytes:
        raise XmpError(f"{sanitize(str(path))}: is longer than {most_bytes >> 20} MiB; it is left alone")
    return data


def replace_file(path: Path, before: bytes | None, after: bytes | None) -> None:
    """Replace a file's content, make the file, or remove it; its mode stays, and a link to it stays a link.

    Args:
        path: the file.
        before: what was read there, None if there was no file.
        after: what is to be there, None to remove it.

    Raises:
        ChangedError: the file is not what was read; it stays as it is.
        XmpError: it cannot be written; it stays as it is.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if after is None:
            _compare(target, before)
            target.unlink(missing_ok=True)
        else:
            if before is not None:
                _compare(target, before)
            _write(target, before, after)
    except OSError as error:
        raise XmpError(f"{sanitize(str(path))}: cannot be written: {error_text(error)}") from None


def _write(path: Path, before: bytes | None, after: bytes) -> None:
    part = path.with_name(f"{_TEMPORARY}{secrets.token_hex(6)}")  # short: a name as long as the photo's may be too long
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(after)
            file.flush()
            os.fsync(
                file.fileno()
            )  # a new name for data that are not on the disk yet is an empty file after a power cut
        if before is not None:
            status = path.stat()
            part.chmod(status.st_mode & 0o7777)
            if hasattr(os, "chown"):
                with suppress(OSError):  # of another user's file in a shared folder; it is the writer's then
                    os.chown(part, -1, status.st_gid)
        _compare(path, before)
        if before is None and _linked(part, path):
            part.unlink()
        else:
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _linked(part: Path, path: Path) -> bool:
    """Give a file its name if that is free still; return False on file systems without links."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise _changed(path) from None
    except OSError:
        return False
    return True


def _compare(path: Path, before: bytes | None) -> None:
    if read_file(path) != before:
        raise _changed(path)


def _changed(path: Path) -> ChangedError:
    return ChangedError(f"{sanitize(str(path))}: another program has changed it just now; run the command again")
