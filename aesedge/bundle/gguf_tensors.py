"""List the weights of a GGUF file: size, offset, layer, and whether llama.cpp repacks them."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from aesedge.errors import ModelLoadError
from aesedge.llm.ggml import GgmlTensor, InitParams, extra_buffer_types, ggml_function

if TYPE_CHECKING:
    from pathlib import Path

_CPU = 0  # ggml_backend_dev_type
_F32 = 0  # ggml_type
_SCRATCH_BYTES = 1 << 14
_N_ROWS = 512  # llama.cpp asks with as many when it chooses a buffer for a weight
_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64


class _GgufParams(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(_pointer)))


class Weight(NamedTuple):
    """One tensor of the file."""

    name: str
    offset: int
    """Where it begins in the file."""
    n_bytes: int
    n_columns: int
    n_rows: int
    repacks: bool
    """Whether llama.cpp, where it may, copies it into a layout that suits this CPU."""

    @property
    def layer(self) -> int | None:
        """The layer it belongs to; None for the token embeddings and the head."""
        found = re.match(r"blk\.(\d+)\.", self.name)
        return int(found[1]) if found else None

    @property
    def is_matrix(self) -> bool:
        """Whether positions are multiplied with it, and not only scaled or looked up."""
        return self.n_rows > 1 and not self.is_input

    @property
    def is_input(self) -> bool:
        """Whether it is the table of token embeddings, which stays on the CPU."""
        return self.name == "token_embd.weight"


def read_weights(path: Path) -> list[Weight]:
    """Return the tensors of a GGUF file.

    Raises:
        ModelLoadError: it is not a GGUF file.
    """
    tensors = _pointer()
    open_ = ggml_function("gguf_init_from_file", _pointer, ctypes.c_char_p, _GgufParams)
    header = open_(str(path).encode(), _GgufParams(no_alloc=True, ctx=ctypes.pointer(tensors)))
    if not header:
        raise ModelLoadError(f"{path}: not a GGUF file that llama.cpp reads; export or install the bundle again")
    try:
        return _weights(header, tensors)
    finally:
        ggml_function("gguf_free", None, _pointer)(header)
        ggml_function("ggml_free", None, _pointer)(tensors)


def _weights(header: int, tensors: Any) -> list[Weight]:
    name_of = ggml_function("gguf_get_tensor_name", ctypes.c_char_p, _pointer, _int)
    offset_of = ggml_function("gguf_get_tensor_offset", _size, _pointer, _int)
    size_of = ggml_function("gguf_get_tensor_size", _size, _pointer, _int)
    start = ggml_function("gguf_get_data_offset", _size, _pointer)(header)
    find = ggml_function("ggml_get_tensor", ctypes.POINTER(GgmlTensor), _pointer, ctypes.c_char_p)
    repacking = _Repacking()
    found = []
    for i in range(ggml_function("gguf_get_n_tensors", _int, _pointer)(header)):
        name, tensor = name_of(header, i), find(tensors, name_of(header, i))
        n_bytes, shape = size_of(header, i), tensor.contents.ne
        weight = Weight(name.decode(), start + offset_of(header, i), n_bytes, shape[0], shape[1], repacks=False)
        found.append(weight._replace(repacks=weight.is_matrix and repacking.takes(tensor)))
    return found


class _Repacking:
    """Asks ggml's CPU backend, as llama.cpp does, whether one of its extra buffer types takes a matrix."""

    def __init__(self) -> None:
        by_type = ggml_function("ggml_backend_dev_by_type", _pointer, ctypes.c_int)
        self._empty_buffer = ggml_function("ggml_backend_buft_alloc_buffer", _pointer, _pointer, _size)
        self._free_buffer = ggml_function("ggml_backend_buffer_free", None, _pointer)
        self._supports = ggml_function("ggml_backend_dev_supports_op", ctypes.c_bool, _pointer, _pointer)
        self._cpu = by_type(_CPU)
        self._types = extra_buffer_types(self._cpu)
        self._known: dict[tuple[int, ...], bool] = {}

    def takes(self, tensor: Any) -> bool:
        key = (tensor.contents.type, *tensor.contents.ne)
        if key not in self._known:
            self._known[key] = any(self._takes(tensor, type_) for type_ in self._types)
        return self._known[key]

    def _takes(self, tensor: Any, buffer_type: int) -> bool:
        make = ggml_function("ggml_init", _pointer, InitParams)
        scratch = make(InitParams(mem_size=_SCRATCH_BYTES, mem_buffer=None, no_alloc=True))
        buffer = self._empty_buffer(buffer_type, 0)
        try:
            rows = ggml_function("ggml_new_tensor_2d", _pointer, _pointer, ctypes.c_int, _int, _int)
            multiply = ggml_function("ggml_mul_mat", _pointer, _pointer, ctypes.c_void_p, _pointer)
            tensor.contents.buffer = buffer
            weight = ctypes.cast(tensor, _pointer)
            product = multiply(scratch, weight, rows(scratch, _F32, tensor.contents.ne[0], _N_ROWS))
            return bool(self._supports(self._cpu, product))
        finally:
            tensor.contents.buffer = None
            self._free_buffer(buffer)
            ggml_function("ggml_free", None, _pointer)(scratch)
