"""Parse the header of a GGUF file without llama.cpp, checking every length and offset against the file.

llama.cpp aborts the process on some malformed headers; this check runs before it reads the file.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import TYPE_CHECKING, NamedTuple

from aesedge.errors import BundleFormatError
from aesedge.system.git_lfs import git_lfs_problem, is_git_lfs_pointer
from aesedge.system.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

    Value = int | float | bool | bytes | list[int] | list[float] | list[bytes]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "?", 10: "Q", 11: "q", 12: "d"}
_MAX_KEYS, _MAX_TENSORS, _MAX_DIMS, _MAX_NAME_BYTES = 4096, 65_536, 4, 63
_MAX_STRING_BYTES, _MAX_ELEMENTS = 1 << 24, 1 << 24
_ALIGNMENTS = {1 << n for n in range(3, 17)}

TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""ggml's number of a type that weights may have: its name, the values in a block, the bytes of a block."""


class Tensor(NamedTuple):
    """A tensor's entry in the header."""

    shape: tuple[int, ...]
    """In ggml's order: the length of a row first."""
    kind: str
    offset: int
    """From the beginning of the tensors' data."""
    n_bytes: int


class GgufHeader(NamedTuple):
    """Everything before the weights."""

    values: dict[str, Value]
    """Key to value; texts are bytes, as they stand in the file."""
    tensors: dict[str, Tensor]

    def text(self, key: str) -> str:
        """Return a text, or an empty one where there is none."""
        value = self.values.get(key)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        BundleFormatError: it is not a whole GGUF file of a version that llama.cpp reads; the message says why.
    """
    try:
        with open_regular(path) as file:
            start = file.read(64)
            problem = _wrong_start(start, path)
            if problem:
                raise BundleFormatError(problem)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _HeaderReader(data).header()
    except OSError as error:
        raise BundleFormatError(f"{path}: cannot be read: {error.strerror}") from None
    except BadGguf as error:
        raise BundleFormatError(f"{path}: {error}; export or install the bundle again") from None


def _wrong_start(start: bytes, path: Path) -> str:
    """Return what is wrong with the first bytes of a file, or an empty text."""
    again = "export or install the bundle again"
    if is_git_lfs_pointer(start):
        return git_lfs_problem(path)
    if not start.startswith(_MAGIC):
        return f"{path}: not a GGUF file; {again}"
    if len(start) < 24:
        return f"{path}: a GGUF file that is cut off; {again}"
    return f"{path}: {problem}; {again}" if (problem := version_problem(start)) else ""


def version_problem(start: bytes) -> str:
    """Return what is wrong with the version of a GGUF file, by its first eight bytes, or an empty text."""
    little, big = (struct.unpack_from(f"{order}I", start, 4)[0] for order in "<>")
    if little in _VERSIONS:
        return ""
    if big in _VERSIONS or big == 1:
        return "a big-endian GGUF file; convert it for little-endian machines"
    newer = "update aesedge" if 3 < little < 1000 else "convert it again"
    return f"GGUF version {little}; versions 2 and 3 can be read: {newer}"


class BadGguf(Exception):  # noqa: N818 (becomes an error that names the file)
    """What is wrong with a language model's file."""


class _HeaderReader:
    """A cursor over a file's bytes that never leaves them."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 8

    def header(self) -> GgufHeader:
        n_tensors, n_keys = self._number("Q"), self._number("Q")
        if n_tensors > _MAX_TENSORS or n_keys > _MAX_KEYS:
            raise BadGguf(f"says that it has {n_tensors} tensors and {n_keys} keys, too many for a language model")
        values: dict[str, Value] = {}
        for _ in range(n_keys):
            key = self._name("a key", 1000)
            if key in values:
                raise BadGguf(f"has the key {key!r} twice")
            values[key] = self._value(key)
        listed: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(n_tensors):
            name = self._name("a tensor", _MAX_NAME_BYTES)
            if name in listed:
                raise BadGguf(f"has the tensor {name!r} twice")
            listed[name] = self._tensor_info(name)
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or alignment not in _ALIGNMENTS:
            raise BadGguf("has a 'general.alignment' that is no power of 2 from 8 to 65536")
        start = -(-self._at // alignment) * alignment
        tensors = {name: _placed(name, *info, alignment) for name, info in listed.items()}
        end = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
            if tensor.offset < end:
                raise BadGguf(f"the tensor {name!r} overlaps another")
            end = tensor.offset + tensor.n_bytes
        if start + end > len(self._data):
            raise BadGguf(f"is cut off: {len(self._data)} bytes, its tensors take {start + end}")
        return GgufHeader(values, tensors)

    def _take(self, n_bytes: int) -> int:
        """Return where the next bytes begin."""
        begin = self._at
        if n_bytes > len(self._data) - begin:
            raise BadGguf("is cut off in its header, or a length in it is wrong")
        self._at = begin + n_bytes
        return begin

    def _number(self, letter: str) -> int:
        found: int = struct.unpack_from(f"<{letter}", self._data, self._take(struct.calcsize(f"<{letter}")))[0]
        return found

    def _bytes(self, most: int) -> bytes:
        n_bytes = self._number("Q")
        if n_bytes > most:
            raise BadGguf(f"has a text of {n_bytes} bytes in its header")
        begin = self._take(n_bytes)
        return self._data[begin : begin + n_bytes]

    def _name(self, what: str, most: int) -> str:
        try:
            name = self._bytes(most).decode()
        except UnicodeDecodeError:
            name = ""
        if not name or not name.isprintable():
            raise BadGguf(f"has {what} whose name is no text")
        return name

    def _value(self, key: str) -> Value:
        kind = self._number("I")
        if kind == _STRING:
            return self._bytes(_MAX_STRING_BYTES)
        if kind != _ARRAY:
            return self._numbers(key, kind, 1)[0]
        inner, n = self._number("I"), self._number("Q")
        if n > _MAX_ELEMENTS:
            raise BadGguf(f"the key {key!r} has {n} elements")
        if inner == _STRING:
            self._check_room(8 * n)
            return [self._bytes(_MAX_STRING_BYTES) for _ in range(n)]
        return self._numbers(key, inner, n)

    def _check_room(self, n_bytes: int) -> None:
        at = self._at
        self._take(n_bytes)
        self._at = at

    def _numbers(self, key: str, kind: int, n: int) -> list[int]:
        letter = _FORMATS.get(kind)
        if letter is None:
            raise BadGguf(f"the key {key!r} has the unknown type {kind}")
        begin = self._take(n * struct.calcsize(f"<{letter}"))
        return list(struct.unpack_from(f"<{n}{letter}", self._data, begin))

    def _tensor_info(self, name: str) -> tuple[tuple[int, ...], int, int]:
        n_dims = self._number("I")
        if not 0 < n_dims <= _MAX_DIMS:
            raise BadGguf(f"the tensor {name!r} has {n_dims} dimensions")
        shape = tuple(self._number("Q") for _ in range(n_dims))
        return shape, self._number("I"), self._number("Q")


def _placed(name: str, shape: tuple[int, ...], kind: int, offset: int, alignment: int) -> Tensor:
    if kind not in TYPES:
        raise BadGguf(f"the tensor {name!r} has the type {kind}, which no weights have")
    type_name, n_values, n_bytes = TYPES[kind]
    if not all(0 < n < 2**40 for n in shape) or math.prod(shape) > 2**50:
        raise BadGguf(f"the tensor {name!r} has the shape {list(shape)}")
    if shape[0] % n_values:
        raise BadGguf(f"the tensor {name!r} has rows of {shape[0]} values, {type_name} has blocks of {n_values}")
    if offset % alignment or offset > 2**60:
        raise BadGguf(f"the tensor {name!r} begins at {offset}, which is not a multiple of {alignment}")
    return Tensor(shape, type_name, offset, math.prod(shape) // n_values * n_bytes)
