"""Read TIFF and BigTIFF directories: the tags of each picture in a file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Number = int | float

_MAX_DIRECTORIES, _MAX_ENTRIES, _MAX_VALUES = 64, 4096, 2**24  # a real TIFF has far fewer; a hostile file ends here
_LETTERS = ("u1", "u1", "u2", "u4", "u4", "i1", "u1", "i2", "i4", "i4", "f4", "f8", "u4", "-", "-", "u8", "i8", "u8")
_TYPES = dict(zip(range(1, 19), _LETTERS, strict=True))
"""Field type to numpy's letter and bytes; a rational is two values."""
_RATIONALS = (5, 10)
_MAGIC = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}


class Directory:
    """One picture's tags, read from the file when they are asked for.

    Args:
        file: the TIFF.
        order: ``<`` or ``>``.
        entries: tag to field type, number of values, and where they stand.
    """

    def __init__(self, file: BinaryIO, order: str, entries: dict[int, tuple[int, int, int]]) -> None:
        self._file = file
        self.order = order
        self._entries = entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def get(self, tag: int, default: tuple[Number, ...] = ()) -> tuple[Number, ...]:
        """Return a tag's values; a rational is its quotient."""
        if tag not in self._entries or _TYPES.get(self._entries[tag][0], "-") == "-":
            return default
        kind = self._entries[tag][0]
        values = np.frombuffer(self.bytes(tag), np.dtype(self.order + _TYPES[kind])).tolist()
        if kind in _RATIONALS:
            return tuple(a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=False))
        return tuple(values)

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return a tag's values as integers."""
        return tuple(int(value) for value in self.get(tag, default))

    def integer(self, tag: int, default: int = 0) -> int:
        """Return a tag's first value as an integer."""
        values = self.integers(tag)
        return values[0] if values else default

    def bytes(self, tag: int) -> bytes:
        """Return a tag's values as they stand in the file, as far as they are there; empty without the tag."""
        if tag not in self._entries:
            return b""
        kind, count, offset = self._entries[tag]
        size = _size_of(kind)
        self._file.seek(offset)
        data = self._file.read(min(count, _MAX_VALUES) * size)
        return data[: len(data) // size * size]


def is_tiff(head: bytes) -> bool:
    """Tell from a file's first four bytes whether it is a TIFF or BigTIFF."""
    return head[:4] in _MAGIC


def read_directories(file: BinaryIO, *, sub_directories: bool = False) -> Iterator[Directory]:
    """Yield a TIFF's directories, one for each page; damaged ones end the list.

    Args:
        file: the TIFF.
        sub_directories: whether those that the tag SubIFDs names come too.
    """
    file.seek(0)
    head = file.read(16)
    order = _MAGIC.get(head[:4])
    if order is None:
        return
    big = head[2:3] == b"+" or head[3:4] == b"+"
    shape = _DirectoryShape.of(order, big=big)
    pending = [struct.unpack_from(order + ("Q" if big else "I"), head.ljust(16, b"\0"), 8 if big else 4)[0]]
    seen: set[int] = set()
    while pending and len(seen) < _MAX_DIRECTORIES:
        offset = pending.pop(0)
        if offset in seen or offset == 0:
            continue
        seen.add(offset)
        try:
            directory, following = _read_directory(file, offset, shape)
        except (struct.error, OverflowError, ValueError, OSError):  # the file ends inside it, or it points nowhere
            continue
        yield directory
        pending.append(following)
        if sub_directories:
            pending += directory.integers(330)[:8]


class _DirectoryShape(NamedTuple):
    """How a directory is laid out: classic TIFF and BigTIFF differ in the width of counts and offsets."""

    order: str
    n_entries: str
    entry: str
    offset: str

    @classmethod
    def of(cls, order: str, *, big: bool) -> _DirectoryShape:
        """Return the layout of a file."""
        return cls(order, *(order + part for part in (("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I"))))


def _read_directory(file: BinaryIO, offset: int, shape: _DirectoryShape) -> tuple[Directory, int]:
    """Return a directory and the offset of the next one, 0 for none."""
    file.seek(offset)
    (n_entries,) = struct.unpack(shape.n_entries, file.read(struct.calcsize(shape.n_entries)))
    if n_entries > _MAX_ENTRIES:
        raise struct.error("not a directory")
    at = offset + struct.calcsize(shape.n_entries)
    size = struct.calcsize(shape.entry)
    data = file.read(size * n_entries)
    entries = {}
    for i, (tag, kind, count, value) in enumerate(struct.iter_unpack(shape.entry, data)):
        inside = at + size * i + size - len(value)
        fits = count * _size_of(kind) <= len(value)
        entries[tag] = (kind, count, inside if fits else struct.unpack(shape.offset, value)[0])
    if len(data) < size * n_entries:
        raise struct.error("the file ends inside the directory")
    following = file.read(struct.calcsize(shape.offset))
    # A last directory without its closing offset is complete all the same.
    next_ = struct.unpack(shape.offset, following)[0] if len(following) == struct.calcsize(shape.offset) else 0
    return Directory(file, shape.order, entries), next_


def _size_of(kind: int) -> int:
    letter = _TYPES.get(kind, "-")
    return 1 if letter == "-" else int(letter[1]) * (2 if kind in _RATIONALS else 1)
