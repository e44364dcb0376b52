"""Read a GGUF file without llama.cpp: typed key/values, tensors as float32."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.bundle.gguf_header import version_problem
from aesedge.errors import CheckpointError, MissingExtraError
from aesedge.system.error_text import error_text
from aesedge.system.git_lfs import N_START_BYTES, git_lfs_problem, is_git_lfs_pointer
from aesedge.system.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from aesedge.errors import AesedgeError

_MAGIC = b"GGUF"
_BEFORE_GGUF = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # ggml, ggmf, ggjt and ggla, little-endian
_AGAIN = "download or convert it again"
_SPLIT = re.compile(r"^(?P<stem>.+)-\d{5}-of-(?P<n>\d{5})\.gguf$")


@dataclass(frozen=True)
class GgufFile:
    """A file whose header was read; the tensors are read when asked for."""

    path: Path
    values: dict[str, Any]
    """Key to value: text, a number, a flag or a list of those."""
    tensors: dict[str, Any]
    """Name to gguf's record of the tensor, in the file's order."""

    @property
    def architecture(self) -> str:
        """What kind of model it holds: ``llama``, ``clip``."""
        return str(self.get("general.architecture", str, ""))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape, in numpy's order of axes."""
        return {name: tuple(int(n) for n in reversed(t.shape)) for name, t in self.tensors.items()}

    def get(self, key: str, kind: type, default: object = None) -> Any:
        """Return a value.

        Args:
            key: its key.
            kind: ``str``, ``int``, ``float``, ``bool`` or ``list``.
            default: what is returned where there is no such key; without one it must be there.

        Raises:
            CheckpointError: it is missing or of another kind.
        """
        if key not in self.values:
            if default is None:
                raise CheckpointError(f"{self.path}: the key '{key}' is missing; {_AGAIN}")
            return default
        value = self.values[key]
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise CheckpointError(f"{self.path}: the key '{key}' is {value!r}; {_AGAIN}")
        return kind(value)

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """Return a tensor in float32, whatever type it is stored in.

        Raises:
            CheckpointError: gguf cannot read its type.
        """
        from gguf import dequantize

        tensor = self.tensors[name]
        try:
            values = dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise CheckpointError(
                f"{self.path}: '{name}' is stored as {tensor.tensor_type.name}, which cannot be read; use an F16 file"
            ) from None
        return np.ascontiguousarray(values, np.float32)


def open_gguf(path: Path) -> GgufFile:
    """Read a file's header.

    Raises:
        CheckpointError: it is not a whole GGUF file that this machine can read.
        MissingExtraError: the package gguf is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise MissingExtraError("reading GGUF files uses the package 'gguf'", "convert") from None
    check_gguf_start(path, CheckpointError, advice="give the two files that llama.cpp runs")
    try:
        reader = GGUFReader(path)
        values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    except (ValueError, KeyError, IndexError, OverflowError, MemoryError, TypeError) as error:
        raise CheckpointError(f"{path}: cut off or damaged ({error_text(error)}); {_AGAIN}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    found = GgufFile(path, values, {tensor.name: tensor for tensor in reader.tensors})
    if found.get("split.count", int, 0) > 1:
        raise _split_error(path)
    return found


def first_bytes(path: Path, n_bytes: int, *, error: type[AesedgeError], advice: str = "") -> bytes:
    """Return the beginning of a file.

    Args:
        path: the file.
        n_bytes: how many bytes of it, at most.
        error: what is raised where they cannot be read.
        advice: what is said behind ``no such file``.
    """
    try:
        with open_regular(path) as file:
            return file.read(n_bytes)
    except FileNotFoundError:
        raise error(f"{path}: no such file{advice}") from None
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from None


def check_gguf_start(path: Path, error: type[AesedgeError], *, advice: str) -> None:
    """Check the first bytes, with more specific messages than the reader's.

    Args:
        path: the file.
        error: what is raised.
        advice: what to do where it is no GGUF file.

    Raises:
        AesedgeError: of the given type: it is not a GGUF file of a version and byte order that can be read.
    """
    start = first_bytes(path, N_START_BYTES, error=error, advice=f"; {advice}")
    if is_git_lfs_pointer(start):
        raise error(git_lfs_problem(path))
    if start[:4] in _BEFORE_GGUF:
        raise error(f"{path}: a GGML file, of before GGUF; convert the checkpoint again, or take a GGUF file")
    if not start.startswith(_MAGIC):
        raise error(f"{path}: not a GGUF file; {advice}")
    if len(start) < 8:
        raise error(f"{path}: cut off after {len(start)} bytes; {_AGAIN}")
    if problem := version_problem(start):
        raise error(f"{path}: {problem}")
    named = _SPLIT.match(path.name)
    if named and int(named["n"]) > 1:
        raise _split_error(path, error)


def _split_error(path: Path, error: type[AesedgeError] = CheckpointError) -> AesedgeError:
    named = _SPLIT.match(path.name)
    first = f"{named['stem']}-00001-of-{named['n']}.gguf" if named else path.name
    whole = f"{named['stem']}.gguf" if named else "WHOLE.gguf"
    return error(f"{path}: one part of a split model; join the parts first: llama-gguf-split --merge {first} {whole}")
