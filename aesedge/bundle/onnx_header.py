"""Check without ONNX Runtime that an ONNX file keeps all its weights in itself.

External weights are read from the paths in the graph, which are not in the manifest, have no hash there, and may point
outside the bundle's folder.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from aesedge.errors import BundleFormatError
from aesedge.system.git_lfs import git_lfs_problem, is_git_lfs_pointer
from aesedge.system.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
# Field numbers of onnx.proto: message, field -> message inside.
_INSIDE = {
    ("model", 7): "graph",
    ("model", 25): "function",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("function", 7): "node",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 10): "tensor",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_MAX_DEPTH = 32
_MAX_FIELDS = 200_000
"""Of one message: a graph has a field for each node, and a tensor one for all of its values."""


class _BadOnnx(Exception):  # noqa: N818 (becomes an error that names the file)
    """What is wrong with a graph."""


def check_vision_file(path: Path) -> None:
    """Check that a file is a complete protobuf message without external weights.

    Raises:
        BundleFormatError: it is not; the message says what is wrong.
    """
    try:
        with open_regular(path) as file:
            start = file.read(64)
            if is_git_lfs_pointer(start):
                raise BundleFormatError(git_lfs_problem(path))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check(data, 0, len(data), "model", 0)
    except OSError as error:
        raise BundleFormatError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # there is nothing to map
        raise BundleFormatError(f"{path}: is empty; export or install the bundle again") from None
    except _BadOnnx as error:
        raise BundleFormatError(f"{path}: {error}; export or install the bundle again") from None


def _check(data: mmap.mmap, begin: int, end: int, message: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _BadOnnx("is no ONNX file: graphs inside graphs without end")
    for n, (field, value, inner_end) in enumerate(_fields(data, begin, end)):
        if n >= _MAX_FIELDS:
            raise _BadOnnx("is no ONNX file that aesedge writes: too many parts")
        if message == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
            raise _BadOnnx("keeps weights in another file, which no manifest can vouch for")
        inside = _INSIDE.get((message, field))
        if inside is not None and inner_end:
            _check(data, value, inner_end, inside, depth + 1)


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a message: number, value, 0; or number, first byte, end of the bytes."""
    at = begin
    while at < end:
        tag, at = _varint(data, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield field, value, 0
        elif wire == _BYTES:
            n_bytes, at = _varint(data, at, end)
            if n_bytes > end - at:
                raise _BadOnnx("is no ONNX file, or is cut off")
            yield field, at, at + n_bytes
            at += n_bytes
        elif wire in {_FIXED32, _FIXED64}:
            at += 4 if wire == _FIXED32 else 8
        else:
            raise _BadOnnx("is no ONNX file")
    if at != end:
        raise _BadOnnx("is no ONNX file, or is cut off")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise _BadOnnx("is no ONNX file, or is cut off")
