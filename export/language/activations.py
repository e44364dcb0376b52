"""Sum the squared inputs of a running language model's matrices, column by column.

llama.cpp shows its graph through ``cb_eval`` (see :class:`aesedge.llm.Context`) as pointers to ``struct ggml_tensor``.
Which products count follows llama.cpp's own tool (tools/imatrix/imatrix.cpp), except that batches of under 16 rows
count too: questions are short.
"""

from __future__ import annotations

import ctypes
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import InferenceError
from aesedge.llm.ggml import GgmlTensor, InitParams, ggml_function

_F32 = 0  # ggml_type


class ColumnSums:
    """Sums of squares per column of what is multiplied with each weight, over all rows that pass.

    An instance is the ``on_node`` of a context. It never raises, since llama.cpp could not let an exception through:
    call :meth:`check` after each decode.

    Args:
        with_output: whether to count the product with ``output.weight`` too.

    Raises:
        InferenceError: the installed ggml has its tensors laid out in another way.
    """

    def __init__(self, *, with_output: bool = False) -> None:
        self._ggml = _ggml()
        self._mat_mul = _mat_mul_op()
        self._with_output = with_output
        self.enabled = True
        """Whether rows are counted now."""
        self.sums: dict[str, npt.NDArray[np.float64]] = {}
        """Name of a weight to its sums, float64 [n_in]."""
        self.n_rows: dict[str, int] = {}
        """Name of a weight to the number of rows that were summed."""
        self._error: BaseException | None = None
        self._last: tuple[int, npt.NDArray[np.float64]] = (0, np.empty(0))

    def __call__(self, address: int, ask: bool) -> bool:  # noqa: FBT001 (llama.cpp's callback)
        """Answer llama.cpp: is this node wanted (``ask``), or shall the graph go on now that it is computed."""
        if not self.enabled:
            return False
        try:
            if ask:
                return self._name(GgmlTensor.from_address(address)) is not None
            self._add(GgmlTensor.from_address(address))
        except BaseException as error:  # noqa: BLE001 (kept for ``check``)
            self._error = error
            return False
        return True

    def check(self) -> None:
        """Raise what went wrong inside llama.cpp since the last call.

        Raises:
            InferenceError: an input is not float32 in rows, or not finite.
        """
        error, self._error = self._error, None
        self._last = (0, np.empty(0))  # the next graph may have another tensor at this address
        if error is not None:
            raise error

    def _name(self, node: GgmlTensor) -> str | None:
        """Return the name of the weight that is multiplied in a node, or None if the node is not wanted."""
        if node.op != self._mat_mul:
            return None
        weight, rows = GgmlTensor.from_address(node.src[0]), GgmlTensor.from_address(node.src[1])
        # On a GPU: "CUDA0#blk.0.attn_k.weight#0"
        parts = weight.name.split(b"#")
        name = parts[1 if len(parts) > 1 else 0].decode()
        wanted = name.startswith("blk.") or (self._with_output and name == "output.weight")
        return name if wanted and rows.type == _F32 else None

    def _add(self, node: GgmlTensor) -> None:
        name = self._name(node) or ""
        address = node.src[1]
        rows = GgmlTensor.from_address(address)
        n_in, n_rows = rows.ne[0], rows.ne[1] * rows.ne[2] * rows.ne[3]
        if n_rows == 0:  # the last layer goes on only with rows whose logits are wanted
            return
        # The products for Q, K and V follow each other and have one input, so have those for gate and up.
        if self._last[0] != address:
            self._last = (address, self._column_sums(name, rows, n_in, n_rows))
        if name in self.sums:
            self.sums[name] += self._last[1]
        else:
            self.sums[name] = self._last[1].copy()
        self.n_rows[name] = self.n_rows.get(name, 0) + n_rows

    def _column_sums(self, name: str, rows: GgmlTensor, n_in: int, n_rows: int) -> npt.NDArray[np.float64]:
        strides = [4, 4 * n_in, 4 * n_in * rows.ne[1], 4 * n_in * rows.ne[1] * rows.ne[2]]
        if list(rows.nb) != strides:
            raise InferenceError(f"{name}: llama.cpp's input has the strides {list(rows.nb)}, expected {strides}")
        if rows.buffer and not self._ggml.ggml_backend_buffer_is_host(rows.buffer):
            values = np.empty((n_rows, n_in), np.float32)
            self._ggml.ggml_backend_tensor_get(ctypes.addressof(rows), values.ctypes.data, 0, values.nbytes)
        else:
            memory = (ctypes.c_float * (n_rows * n_in)).from_address(rows.data)
            values = np.ctypeslib.as_array(memory).reshape(n_rows, n_in)
        sums: npt.NDArray[np.float64] = np.einsum("ij,ij->j", values, values).astype(np.float64)
        if not np.isfinite(sums).all():
            raise InferenceError(f"{name}: its input is not finite; the language model or the photo is broken")
        return sums


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ggml_backend_buffer_is_host": (ctypes.c_bool, _POINTER),
    "ggml_backend_tensor_get": (None, _POINTER, _POINTER, _SIZE, _SIZE),
    "ggml_init": (_POINTER, InitParams),
    "ggml_free": (None, _POINTER),
    "ggml_new_tensor_2d": (_POINTER, _POINTER, ctypes.c_int, ctypes.c_int64, ctypes.c_int64),
    "ggml_set_name": (_POINTER, _POINTER, ctypes.c_char_p),
    "ggml_get_data": (_POINTER, _POINTER),
    "ggml_mul_mat": (_POINTER, _POINTER, _POINTER, _POINTER),
    "ggml_op_name": (ctypes.c_char_p, ctypes.c_int),
}
"""ggml's functions: type of the result, types of the arguments."""


@cache
def _ggml() -> SimpleNamespace:
    """Return the functions of the ggml library that llama.cpp runs on."""
    return SimpleNamespace(**{name: ggml_function(name, *types) for name, types in _SIGNATURES.items()})


@cache
def _mat_mul_op() -> int:
    """Return ggml's number for a matrix product, read from one that is made for it.

    Raises:
        InferenceError: what is known of that product is not found where ``GgmlTensor`` looks for it.
    """
    ggml = _ggml()
    context = ggml.ggml_init(InitParams(2**16, None, False))
    try:
        weight, rows = (ggml.ggml_new_tensor_2d(context, _F32, 3, n) for n in (5, 7))
        ggml.ggml_set_name(weight, b"blk.0.probe.weight")
        node = ggml.ggml_mul_mat(context, weight, rows)
        found = _facts(GgmlTensor.from_address(node), GgmlTensor.from_address(weight), GgmlTensor.from_address(rows))
        expected: dict[str, Any] = {
            "sources": [weight, rows, None],
            "name": b"blk.0.probe.weight",
            "rows": (_F32, [3, 7, 1, 1], [4, 12, 84, 84], ggml.ggml_get_data(rows)),
            "product": [5, 7, 1, 1],
        }
        wrong = next((key for key, value in expected.items() if found[key] != value), None)
        op = int(GgmlTensor.from_address(node).op)
        if wrong is None and ggml.ggml_op_name(op) != b"MUL_MAT":
            wrong = "op"
        if wrong is not None:
            raise InferenceError(
                f"the installed llama.cpp lays out its tensors differently ({wrong}), so importance cannot be "
                "measured; install the llama-cpp-python that aesedge asks for"
            )
        return op
    finally:
        ggml.ggml_free(context)


def _facts(node: GgmlTensor, weight: GgmlTensor, rows: GgmlTensor) -> dict[str, Any]:
    return {
        "sources": list(node.src)[:3],
        "name": weight.name,
        "rows": (rows.type, list(rows.ne), list(rows.nb), rows.data),
        "product": list(node.ne),
    }
