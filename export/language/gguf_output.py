"""Write one GGUF file of a language model: tensor types, header, then the bytes in order.

The header is written first, so what follows can be written piece by piece and nothing is kept in memory.
"""

from __future__ import annotations

import io
import math
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np
from gguf.gguf_writer import WriterState

from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.errors import BundleError
from aesedge.system.byte_sizes import size_text

from .ggml import row_bytes
from .tensor_types import Mix, fitting_type, is_quantized, wanted_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from .language_source import LanguageSource

_ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT


@dataclass(frozen=True)
class GgufLayout:
    """The tensors of one file."""

    file_type: str
    types: dict[str, str]
    """Tensor to its type."""
    stored_otherwise: dict[str, str]
    """Tensors whose rows do not fit the type that they should have, and the type that they have."""
    n_bytes: int
    """Of all tensors, padded, without the header."""


def plan_layout(source: LanguageSource, file_type: str, *, weighted: bool) -> GgufLayout:
    """Decide on every tensor's type.

    Args:
        source: the model.
        file_type: a key of ``GGUF_TYPES``.
        weighted: whether an importance matrix is used.
    """
    mix = _mix(source, weighted=weighted)
    types: dict[str, str] = {}
    stored_otherwise: dict[str, str] = {}
    n_bytes = 0
    for name, shape in source.shapes.items():
        n_rows, n_in = as_matrix(shape)
        if is_quantized(name, shape):
            wanted = wanted_type(file_type, name, n_in, mix)
            types[name] = fitting_type(wanted, n_in)
            if types[name] != wanted:
                stored_otherwise[name] = types[name]
        else:
            types[name] = source.types.get(name, "F32")
        n_tensor = n_rows * row_bytes(types[name], n_in)
        n_bytes += n_tensor + -n_tensor % _ALIGNMENT
    return GgufLayout(file_type, types, stored_otherwise, n_bytes)


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of rows and of values in a row; a vector is one row."""
    return math.prod(shape[:-1]), shape[-1]


def _mix(source: LanguageSource, *, weighted: bool) -> Mix:
    def number(key: str, default: int) -> int:
        return int(source.fields[key].value) if key in source.fields else default

    n_heads = number("llama.attention.head_count", 1)
    return Mix(
        n_layers=number("llama.block_count", 0),
        n_gqa=n_heads // number("llama.attention.head_count_kv", n_heads),
        tied="output.weight" not in source.shapes,
        importance=weighted,
    )


class GgufOutput:
    """A file that is being written; use it in a ``with`` block, which ends with everything on the disk.

    Args:
        path: the file.
        source: the model, for the header.
        layout: its tensors' types.
    """

    def __init__(self, path: Path, source: LanguageSource, layout: GgufLayout) -> None:
        self.path, self.layout = path, layout
        self.n_data_bytes = 0
        """Written so far, without the header."""
        self._header = header(source, layout)

    def __enter__(self) -> GgufOutput:
        with self._explained():
            self._file = self.path.open("wb")
            self._file.write(self._header)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with suppress(OSError):  # the disk is full still; the error is on its way already
                self._file.close()
            return
        with self._explained(), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())  # some file systems find out only now that there is no room

    def write(self, data: npt.NDArray[np.uint8]) -> None:
        """Write more of the present tensor.

        Raises:
            BundleError: the disk is full, or the file cannot be written for another reason.
        """
        with self._explained():
            self._file.write(data.data)
        self.n_data_bytes += data.nbytes

    def end_tensor(self) -> None:
        """Fill up to where the next tensor begins."""
        self.write(np.zeros(-self.n_data_bytes % _ALIGNMENT, np.uint8))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the system says into what the user can do."""
        try:
            yield
        except OSError as error:
            n_bytes = len(self._header) + self.layout.n_bytes
            raise BundleError(
                f"{self.path}: cannot be written: {error.strerror or error}; the file needs {n_bytes} bytes "
                f"({size_text(n_bytes)}), make room or give another folder"
            ) from error


def header(source: LanguageSource, layout: GgufLayout) -> bytes:
    """Return what stands before the tensors: key/values, names, shapes, types; padded."""
    writer = gguf.GGUFWriter(None, "llama")
    for key, field in source.fields.items():
        if key != "general.architecture":  # the writer has it already
            writer.add_key_value(key, field.value, field.type, field.sub_type)
    writer.add_file_type(GGUF_TYPES[layout.file_type].ftype)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, shape in source.shapes.items():
        n_rows, n_in = as_matrix(shape)
        kind = layout.types[name]
        n_bytes = n_rows * row_bytes(kind, n_in)
        writer.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=gguf.GGMLQuantizationType[kind])
    memory = io.BytesIO()
    writer.fout, writer.state = [memory], WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    data = memory.getvalue()
    return data + bytes(-len(data) % _ALIGNMENT)
