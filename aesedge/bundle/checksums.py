"""Hash files with SHA-256, cached by size and times so that 4 GB are read once."""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from typing import TYPE_CHECKING, Annotated

import msgspec

from aesedge.errors import BundleIntegrityError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.paths import cache_folder
from aesedge.system.regular_file import open_regular, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
_MEMORY_NAME = "hashes.json"
_MEMORY_MAX_BYTES = 1 << 24
_Known = tuple[int, int, int, int, Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]]
"""Size, times of content and inode, inode, SHA-256."""
_log = logging.getLogger("aesedge")


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return a file's SHA-256 in hexadecimal, without the cache.

    Args:
        path: the file.
        progress: called with the number of bytes read since the last call.

    Raises:
        BundleIntegrityError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                if progress is not None:
                    progress(len(chunk))
    except OSError as error:
        raise BundleIntegrityError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def check_sha256(path: Path, expected: str, found: str) -> None:
    """Compare a file's SHA-256 with the manifest's.

    Raises:
        BundleIntegrityError: they differ.
    """
    if found != expected:
        raise BundleIntegrityError(
            f"{path}: altered: SHA-256 is {found[:12]}…, the manifest says {expected[:12]}…; install or export the "
            "bundle again"
        )


def cached_sha256(path: Path, *, expected: str = "") -> str:
    """Return a file's SHA-256; a file with the same size, inode and times as before is not read again.

    A cached hash that differs from ``expected`` is computed again: the cache may be wrong, the file may be right. A
    cache folder that cannot be written is logged once, and nothing is remembered.

    Raises:
        BundleIntegrityError: the file cannot be read.
    """
    try:
        key, state = str(path.resolve()), _state(path)
    except OSError as error:
        raise BundleIntegrityError(f"{path}: cannot be read: {error.strerror}") from None
    memory = _recall()
    known = memory.get(key)
    if known is not None and known[:-1] == state and (not expected or known[-1] == expected):
        return known[-1]
    digest = sha256(path)
    memory[key] = (*state, digest)
    _remember(memory)
    return digest


def known_sha256(path: Path) -> str:
    """Return the cached SHA-256 of an unchanged file, or an empty text; the file is not read."""
    try:
        known = _recall().get(str(path.resolve()))
        return known[-1] if known is not None and known[:-1] == _state(path) else ""
    except OSError:
        return ""


def _state(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _recall() -> dict[str, _Known]:
    path = cache_folder() / _MEMORY_NAME
    try:
        return msgspec.json.decode(
            read_regular(path, most_bytes=_MEMORY_MAX_BYTES, follow_links=False), type=dict[str, _Known]
        )
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        reason = error.strerror
    except (msgspec.MsgspecError, RecursionError, ValueError):
        reason = "is not what aesedge wrote"
    _remark_once(f"{path}: {reason}; it is made again, and bundles are read anew")
    return {}


def _remember(memory: dict[str, _Known]) -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / _MEMORY_NAME, msgspec.json.encode(memory), own=True)
    except OSError as error:
        remark_unwritable(folder, error.strerror or "unknown reason")


@cache
def _remark_once(text: str) -> None:
    _log.warning("%s", text)


@cache
def remark_unwritable(folder: Path, reason: str) -> None:
    """Warn once that the cache folder cannot be written."""
    _log.warning(
        "the cache folder %s cannot be written (%s): bundles are checked anew at every start. "
        "Set AESEDGE_CACHE to a folder that can be written",
        folder,
        reason,
    )
