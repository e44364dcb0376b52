"""Read and write one cache entry as a checksummed file.

    preamble   magic, format version, length of the header, SHA-256 of the header
    header     JSON: key, kind, metadata, length and SHA-256 of the payload; spaces up to the next multiple of 64
    payload

Every byte is under a checksum or compared with what it must be, and the file's length with what the header says.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from _typeshed import ReadableBuffer

    Payload = ReadableBuffer | npt.NDArray[Any]  # numpy's stubs call arrays buffers from Python 3.12 on

MAGIC = b"aesedge\n"
FORMAT_VERSION = 1
_PREAMBLE = struct.Struct("<8sII32s")
_ALIGNMENT = 64
_HEADER_LIMIT_BYTES = 1 << 16
_PIECE_BYTES = 4 << 20  # between two of them Ctrl-C and other threads have their turn


class DamagedEntry(Exception):  # noqa: N818 (no error: the entry is computed again)
    """A file is not the requested entry, or is damaged; the text says why."""


@dataclass(frozen=True)
class Entry:
    """An entry that was read."""

    key: str
    kind: str
    """``embeddings`` or ``kv``."""
    metadata: dict[str, Any]
    """What its writer noted, e.g. ``{"n_tokens": 620}``."""
    payload: npt.NDArray[np.uint8]
    """[n_bytes], contiguous, the caller's own; ``payload.ctypes.data`` is the address that C functions take."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    key: str
    kind: str
    metadata: dict[str, Any]
    payload_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    payload_sha256: str


class EntryWriter:
    """Writes an entry; the payload is not copied and must not change until it is written.

    Args:
        key: from :mod:`aesedge.cache.keys`.
        kind: ``embeddings`` or ``kv``.
        metadata: small JSON.
        payload: anything with one contiguous buffer: bytes, a numpy array, a ctypes array.
    """

    def __init__(self, key: str, kind: str, metadata: Mapping[str, Any], payload: Payload) -> None:
        self._payload = _flat(payload)
        digest = hashlib.sha256()
        for piece in _pieces(self._payload):
            digest.update(piece)
        header = _Header(
            key=key,
            kind=kind,
            metadata=dict(metadata),
            payload_bytes=len(self._payload),
            payload_sha256=digest.hexdigest(),
        )
        try:
            text = msgspec.json.encode(header)
        except (TypeError, ValueError) as error:
            raise UsageError(f"metadata of an entry is plain JSON: {error}") from None
        text += b" " * (-(_PREAMBLE.size + len(text)) % _ALIGNMENT)
        if len(text) > _HEADER_LIMIT_BYTES:
            raise UsageError(
                f"metadata of an entry is small; this is {len(text)} of at most {_HEADER_LIMIT_BYTES} bytes"
            )
        self._head = _PREAMBLE.pack(MAGIC, FORMAT_VERSION, len(text), hashlib.sha256(text).digest()) + text
        self.n_bytes = len(self._head) + len(self._payload)
        """Length of the file."""

    def write(self, file: BinaryIO) -> None:
        """Write the file and fsync it."""
        file.write(self._head)
        file.writelines(_pieces(self._payload))
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave the name without the content


def read_entry(file: BinaryIO, *, key: str, kind: str) -> Entry:
    """Read an entry from an open file.

    Raises:
        DamagedEntry: it is not that entry, or not as it was written.
    """
    header = read_header(file, key=key, kind=kind)
    try:
        payload = np.empty(header.payload_bytes, dtype=np.uint8)
    except MemoryError:
        raise DamagedEntry(f"memory has no room for its {header.payload_bytes} bytes") from None
    digest = hashlib.sha256()
    for piece in _pieces(payload.data):
        if file.readinto(piece) != len(piece):  # type: ignore[attr-defined] # every binary file has it, BinaryIO hides it
            raise DamagedEntry("it was cut short while it was read")
        digest.update(piece)
    if digest.hexdigest() != header.payload_sha256:
        raise DamagedEntry("its content is not what was written")
    return Entry(header.key, header.kind, header.metadata, payload)


def read_header(file: BinaryIO, *, key: str, kind: str) -> _Header:
    """Read and check everything before the payload, and that the payload has the length it must have.

    Raises:
        DamagedEntry: it is not that entry, or not as it was written.
    """
    preamble = file.read(_PREAMBLE.size)
    if len(preamble) < _PREAMBLE.size:
        raise DamagedEntry("it is cut short")
    magic, version, n_bytes, sha256 = _PREAMBLE.unpack(preamble)
    if magic != MAGIC:
        raise DamagedEntry("it is no file of aesedge")
    if version != FORMAT_VERSION:
        raise DamagedEntry(f"it has format version {version}, not {FORMAT_VERSION}")
    text = file.read(min(n_bytes, _HEADER_LIMIT_BYTES))
    if len(text) != n_bytes or hashlib.sha256(text).digest() != sha256:
        raise DamagedEntry("its header is not what was written")
    try:
        header = msgspec.json.decode(text, type=_Header)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DamagedEntry(f"its header cannot be read: {error}") from None
    if (header.key, header.kind) != (key, kind):
        raise DamagedEntry(f"it holds another entry ({header.kind} {header.key})")
    n_expected = _PREAMBLE.size + n_bytes + header.payload_bytes
    n_found = os.fstat(file.fileno()).st_size
    if n_found != n_expected:
        raise DamagedEntry(f"it has {n_found} bytes instead of {n_expected}")
    return header


def _flat(payload: Payload) -> memoryview:
    """View a buffer of any item type as bytes, without a copy."""
    try:
        whole = payload.data if isinstance(payload, np.ndarray) else memoryview(payload)
        return np.frombuffer(whole, dtype=np.uint8).data if whole.nbytes else memoryview(b"")
    except (BufferError, TypeError, ValueError) as error:
        raise UsageError(f"the payload of an entry is one contiguous buffer: {error}") from None


def _pieces(view: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]
