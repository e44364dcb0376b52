"""Products by ggml itself: by a backend's own graph, through the C functions that llama-cpp-python installs."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from aesedge.llm.ggml import GgmlTensor, InitParams, backend_function, ggml_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

POINTER, SIZE = ctypes.c_void_p, ctypes.c_size_t
F32, CPU_DEVICE, ACCELERATOR = 0, 0, 3
TYPES = {name: int(gguf.GGMLQuantizationType[name]) for name in ("Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q8_0")}


def quantized(type_: int, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return rows of floats in a GGUF type, by ggml's own conversion."""
    n_rows, n_columns = values.shape
    row_bytes = ggml_function("ggml_row_size", SIZE, ctypes.c_int, ctypes.c_int64)(type_, n_columns)
    to = np.empty((n_rows, row_bytes), np.uint8)
    chunk = ggml_function(
        "ggml_quantize_chunk", SIZE, ctypes.c_int, POINTER, POINTER, *[ctypes.c_int64] * 3, ctypes.c_void_p
    )
    chunk(type_, np.ascontiguousarray(values).ctypes.data, to.ctypes.data, 0, n_rows, n_columns, None)
    return to


def device(kind: int) -> int | None:
    """Return the first device of a kind (``ggml_backend_dev_type``)."""
    found: int | None = ggml_function("ggml_backend_dev_by_type", POINTER, ctypes.c_int)(kind)
    return found


class Product:
    """Weights of a GGUF type times float columns as a graph of one operation.

    Args:
        type_: of the weights.
        weights: [*batch, rows, bytes of a row].
        x: [*batch, columns, inputs].
    """

    def __init__(self, type_: int, weights: npt.NDArray[np.uint8], x: npt.NDArray[np.float32]) -> None:
        self._context = ggml_function("ggml_init", POINTER, InitParams)(InitParams(1 << 20, None, True))
        self._weights, self._x, self._data = weights, np.ascontiguousarray(x, np.float32), (weights, x)
        inputs = x.shape[-1]
        self.weights = self._tensor(type_, [inputs, *reversed(weights.shape[:-1])])
        self.x = self._tensor(F32, list(reversed(x.shape)))
        make = ggml_function("ggml_mul_mat", POINTER, POINTER, POINTER, POINTER)
        self.result: int = make(self._context, self.weights, self.x)
        self._buffer: int | None = None

    def _tensor(self, type_: int, sizes: Sequence[int]) -> int:
        new = ggml_function("ggml_new_tensor", POINTER, POINTER, ctypes.c_int, ctypes.c_int, POINTER)
        tensor: int = new(self._context, type_, len(sizes), (ctypes.c_int64 * len(sizes))(*sizes))
        return tensor

    def supported(self, by: int) -> bool:
        """Whether a device takes this operation."""
        return bool(ggml_function("ggml_backend_dev_supports_op", ctypes.c_bool, POINTER, POINTER)(by, self.result))

    def compute(self, by: int, *, n_threads: int = 1) -> npt.NDArray[np.float32]:
        """Return the product as a device computes it, [*batch, columns, rows]."""
        self._allocate()
        graph = ggml_function("ggml_new_graph", POINTER, POINTER)(self._context)
        ggml_function("ggml_build_forward_expand", None, POINTER, POINTER)(graph, self.result)
        backend = ggml_function("ggml_backend_dev_init", POINTER, POINTER, ctypes.c_char_p)(by, None)
        registry = ggml_function("ggml_backend_dev_backend_reg", POINTER, POINTER)(by)
        address = backend_function(registry, b"ggml_backend_set_n_threads")
        ctypes.CFUNCTYPE(None, POINTER, ctypes.c_int)(address or 0)(backend, n_threads)
        status = ggml_function("ggml_backend_graph_compute", ctypes.c_int, POINTER, POINTER)(backend, graph)
        assert status == 0
        out = np.full([*self._x.shape[:-1], self._weights.shape[-2]], np.nan, np.float32)
        download = ggml_function("ggml_backend_tensor_get", None, POINTER, POINTER, SIZE, SIZE)
        download(self.result, out.ctypes.data, 0, out.nbytes)
        ggml_function("ggml_backend_free", None, POINTER)(backend)
        return out

    def _allocate(self) -> None:
        if self._buffer is not None:
            return
        cpu = ggml_function("ggml_backend_cpu_buffer_type", POINTER)()
        self._buffer = ggml_function("ggml_backend_alloc_ctx_tensors_from_buft", POINTER, POINTER, POINTER)(
            self._context, cpu
        )
        upload = ggml_function("ggml_backend_tensor_set", None, POINTER, POINTER, SIZE, SIZE)
        for tensor, data in ((self.weights, self._weights), (self.x, self._x)):
            upload(tensor, data.ctypes.data, 0, data.nbytes)

    def field(self, tensor: int) -> GgmlTensor:
        """Return a tensor's fields, to change them."""
        found: Any = ctypes.cast(tensor, ctypes.POINTER(GgmlTensor)).contents
        return found  # type: ignore[no-any-return]

    def close(self) -> None:
        """Free the graph and its memory."""
        if self._buffer is not None:
            ggml_function("ggml_backend_buffer_free", None, POINTER)(self._buffer)
        ggml_function("ggml_free", None, POINTER)(self._context)
