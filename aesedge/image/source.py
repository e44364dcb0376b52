"""Open a photo's bytes from a path, a buffer or a stream."""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from aesedge.errors import AesedgeError, ImageError, ImageNotFoundError, ImageTooLargeError, UsageError
from aesedge.system.git_lfs import N_START_BYTES, git_lfs_problem, is_git_lfs_pointer
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def shown_name(source: object, name: str | None) -> str:
    """Return the name of a photo for messages."""
    return sanitize(name or name_of(source) or "the image")


def name_of(source: object) -> str | None:
    """Return the path of a photo or of an open file, or None."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return os.fsdecode(name) if isinstance(name, (str, os.PathLike)) else None


@contextmanager
def open_source(source: Source, name: str, max_bytes: int) -> Iterator[BinaryIO]:
    """Open the photo's bytes as a seekable file, checked to be neither empty nor larger than ``max_bytes``."""
    if isinstance(source, (str, os.PathLike)):
        _check_path(source, name, max_bytes)
        try:
            file: BinaryIO = Path(source).open("rb")  # noqa: SIM115 - closed below; only open() is guarded here
        except OSError as error:
            raise _unreadable(error, name) from error
    else:
        file = io.BytesIO(_in_memory(source, name, max_bytes))
    with file:
        _check_start(file, name)
        yield file


def _check_start(file: BinaryIO, name: str) -> None:
    try:
        start = file.read(N_START_BYTES)
        file.seek(0)
    except OSError as error:  # the disk, or the share, went away
        raise _unreadable(error, name) from error
    if is_git_lfs_pointer(start):
        raise ImageError(git_lfs_problem(name))


def _check_path(path: str | os.PathLike[str], name: str, max_bytes: int) -> None:
    """Check the path before opening it: opening a FIFO or a device may block."""
    try:
        info = os.stat(path)  # noqa: PTH116 - Path("") is the current folder, os.stat("") is not found
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise _unreadable(error, name) from error
    if stat.S_ISDIR(info.st_mode):
        raise ImageError(f"{name}: is a folder, not a photo; name the photos in it, e.g. {name.rstrip('/')}/*.jpg")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{name}: is a device or a pipe, not a file; send image bytes to stdin instead")
    _check_bytes(info.st_size, name, max_bytes)


def _in_memory(source: bytes | bytearray | memoryview | BinaryIO, name: str, max_bytes: int) -> bytes:
    """Return the bytes of a buffer or stream; a stream is read no further than one byte past the limit."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif hasattr(source, "read"):
        try:
            data = source.read(max_bytes + 1)
        except AesedgeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            raise _unreadable(error, name) from error
        if not isinstance(data, bytes):
            raise UsageError(f"{name}: the stream gives {type(data).__name__}, not bytes; open it in binary mode")
    else:
        raise UsageError(f"{name}: a {type(source).__name__} is no photo; give a path, bytes, a binary file, an image")
    _check_bytes(len(data), name, max_bytes)
    return data


def _check_bytes(n_bytes: int, name: str, max_bytes: int) -> None:
    if n_bytes == 0:
        raise ImageError(f"{name}: is empty (0 bytes); copy the photo again from where it came")
    if n_bytes > max_bytes:
        raise ImageTooLargeError(
            f"{name}: is larger than the limit of {max_bytes} bytes; export the photo smaller, for example as JPEG"
        )


def _unreadable(error: Exception, name: str) -> ImageError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ImageNotFoundError(f"{name}: there is no such file; check the path")
    if isinstance(error, PermissionError):
        return ImageError(f"{name}: no permission to read it; change the file's permissions or copy it")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ImageError(f"{name}: cannot be read: {reason}; check the path and the disk")
