"""Recognise a file that was moved, renamed or copied, without decoding it."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from aesedge.library.capture import orientation_of

_TAIL_BYTES = 64 << 10
_SAMPLE_BYTES = 4 << 10
_DENSE = 0.9


def tail_digest(path: str, size: int) -> bytes:
    """Return the digest by which a file of this size is found again, wherever it is.

    The last 64 KB of a photo are compressed pixels, which no other photo has; with them counts how it is turned, which
    programs change in place. Where the tail can be compressed further (a white margin of a scan, an index, padding)
    other photos may share it, and the whole file is hashed.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size > _TAIL_BYTES:
            file.seek(-_TAIL_BYTES, os.SEEK_END)
        tail = file.read(_TAIL_BYTES)
        if size <= _TAIL_BYTES or _is_dense(tail):
            return hashlib.sha256(b"tail %d " % orientation_of(path) + tail).digest()
        file.seek(0)
        return hashlib.sha256(b"whole" + _sha256(file)).digest()


def _is_dense(tail: bytes) -> bool:
    """Return whether none of four samples of the tail can be compressed."""
    starts = range(0, len(tail), len(tail) // 4)
    samples = [tail[start : start + _SAMPLE_BYTES] for start in starts]
    return all(len(zlib.compress(sample, 1)) > _DENSE * len(sample) for sample in samples if sample)


def _sha256(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()
