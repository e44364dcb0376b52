"""Read a GGUF file's language model by rows, to make other quantization types from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

from aesedge.errors import BundleFormatError
from aesedge.system.error_text import error_text

from .ggml import dequantize_rows, row_bytes
from .gguf_output import as_matrix
from .gguf_reading import check_gguf_start

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_NOT_COPIED = {
    "GGUF.version",  # what the reader makes of the file's first bytes
    "GGUF.tensor_count",
    "GGUF.kv_count",
    "general.alignment",  # a new file is aligned as usual
    "general.file_type",
    "general.quantization_version",
}


class GgufSource:
    """A :class:`~.language_source.LanguageSource` of a GGUF file of any precision.

    Args:
        path: the file.

    Raises:
        BundleFormatError: it is damaged, one part of several, or not a Llama model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        check_gguf_start(path, BundleFormatError, advice="get the file again")
        try:
            reader = gguf.GGUFReader(path)
            self.fields = {
                key: gguf.GGUFValue(field.contents(), field.types[0], field.types[-1])
                for key, field in reader.fields.items()
                if key not in _NOT_COPIED and field.data  # an empty array cannot be written
            }
        except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
            raise BundleFormatError(f"{path}: cut off or damaged ({error_text(error)}); get the file again") from None
        _check(path, self.fields)
        self.shapes = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors}
        self.types = {t.name: t.tensor_type.name for t in reader.tensors}
        self._offsets = {t.name: int(t.data_offset) for t in reader.tensors}

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return rows [start, stop) as float32 [stop - start, n_in]; a vector is one row."""
        return dequantize_rows(self.packed(name, start, stop), self.types[name], self.shapes[name][-1])

    def packed(self, name: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Return rows [start, stop) as they lie in the file, uint8 [stop - start, n_bytes of a row]."""
        _, n_in = as_matrix(self.shapes[name])
        n_bytes = row_bytes(self.types[name], n_in)
        # Read, not mapped: mapped pages would count as this process's memory.
        data = np.fromfile(
            self.path, np.uint8, count=(stop - start) * n_bytes, offset=self._offsets[name] + start * n_bytes
        )
        if data.size != (stop - start) * n_bytes:
            raise BundleFormatError(f"{self.path}: ends within '{name}'; get the file again")
        return data.reshape(stop - start, n_bytes)


def _check(path: Path, fields: dict[str, gguf.GGUFValue]) -> None:
    def value(key: str, default: object) -> object:
        return fields[key].value if key in fields else default

    architecture = value("general.architecture", "unknown")
    if architecture != "llama" or value("llama.expert_count", 0):
        kind = "a mixture of experts" if architecture == "llama" else f"an '{architecture}' model"
        raise BundleFormatError(f"{path}: {kind}; only Llama models, as in LLaVA-1.5, can be quantized")
    if value("split.count", 1) != 1:
        raise BundleFormatError(f"{path}: one of several parts; join them with: llama-gguf-split --merge")
