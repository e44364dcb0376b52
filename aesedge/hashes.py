"""SHA-256 of files, remembered by size and time so that 4 GB are read once; knows nothing of bundles."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from aesedge.errors import BundleIntegrityError
from aesedge.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 1 << 20
_MEMORY_NAME = "hashes.json"
_log = logging.getLogger("aesedge")


def cache_folder() -> Path:
    """Where aesedge keeps what it can compute again: ``AESEDGE_CACHE``, or the platform's folder for caches."""
    return Path(os.environ.get("AESEDGE_CACHE") or platformdirs.user_cache_dir("aesedge", appauthor=False))


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return a file's SHA-256 in hexadecimal, read anew.

    Args:
        path: the file.
        progress: called with the number of bytes read since the last call.

    Raises:
        BundleIntegrityError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                if progress is not None:
                    progress(len(chunk))
    except OSError as error:
        raise BundleIntegrityError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str:
    """Return a file's SHA-256; a file with the same size, inode and times as before is not read again.

    A cache folder that cannot be written costs time, not answers: it is logged once, and nothing is remembered.
    """
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    memory = _recall()
    key = str(path.resolve())
    known = memory.get(key)
    if isinstance(known, list) and known[:-1] == state and isinstance(known[-1], str):
        return known[-1]
    digest = sha256(path)
    memory[key] = [*state, digest]
    _remember(memory)
    return digest


def _recall() -> dict[str, object]:
    try:
        memory = json.loads((cache_folder() / _MEMORY_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(memory: dict[str, object]) -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _MEMORY_NAME, json.dumps(memory).encode())
    except OSError as error:
        _complain_once(folder, error.strerror or "unknown reason")


@cache
def _complain_once(folder: Path, reason: str) -> None:
    _log.warning(
        "the cache folder %s cannot be written (%s): bundles are checked anew at every start. "
        "Set AESEDGE_CACHE to a folder that can be written",
        folder,
        reason,
    )
