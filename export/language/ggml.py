"""Quantize and dequantize rows with the installed ggml library.

The library is the one that llama-cpp-python brings and that the runtime loads, so what is written here is what it will
read. The calls release Python's lock: several threads may work on rows of their own.
"""

from __future__ import annotations

import ctypes
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from aesedge.errors import ModelLoadError
from aesedge.llm.ggml import ggml_function

if TYPE_CHECKING:
    import numpy.typing as npt

_REINSTALL = "install it again with: pip install --force-reinstall llama-cpp-python"


def row_bytes(ggml_type: str, n_in: int) -> int:
    """Return the bytes of one row.

    Args:
        ggml_type: name of a type of tensors, e.g. ``Q4_K``.
        n_in: values in a row, a multiple of the type's block.
    """
    n_block, n_bytes = gguf.GGML_QUANT_SIZES[_number(ggml_type)]
    return n_in // n_block * n_bytes


def quantize_rows(
    rows: npt.NDArray[np.float32], ggml_type: str, importance: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.uint8]:
    """Return rows in another type, as llama.cpp's quantizer makes them.

    Args:
        rows: float32 [n_rows, n_in], finite.
        ggml_type: name of the type, e.g. ``Q4_K``; also ``F32``, ``F16`` and ``BF16``.
        importance: float32 [n_in], how much each input matters; None for all alike.

    Returns:
        uint8 [n_rows, n_bytes of a row].

    Raises:
        ValueError: the type cannot hold a value.
        ModelLoadError: ggml is not installed as expected.
    """
    lib, number = _load(), _number(ggml_type)
    rows = np.ascontiguousarray(rows, np.float32)
    n_rows, n_in = rows.shape
    packed = np.empty((n_rows, row_bytes(ggml_type, n_in)), np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    address = None if weights is None else weights.ctypes.data
    lib.ggml_quantize_chunk(number, rows.ctypes.data, packed.ctypes.data, 0, n_rows, n_in, address)
    if not lib.ggml_validate_row_data(number, packed.ctypes.data, packed.nbytes):
        raise ValueError(f"values are too large for {ggml_type}")
    return packed


def dequantize_rows(packed: npt.NDArray[np.uint8], ggml_type: str, n_in: int) -> npt.NDArray[np.float32]:
    """Return rows of a type as float32 [n_rows, n_in].

    Args:
        packed: uint8 [n_rows, n_bytes of a row].
        ggml_type: name of the type.
        n_in: values in a row.

    Raises:
        ModelLoadError: ggml is not installed as expected, or does not know the type.
    """
    if ggml_type == "F32":
        return packed.view(np.float32).reshape(-1, n_in)
    packed = np.ascontiguousarray(packed)
    rows = np.empty((len(packed), n_in), np.float32)
    _dequantizer(ggml_type)(packed.ctypes.data, rows.ctypes.data, rows.size)
    return rows


def _number(ggml_type: str) -> int:
    return int(gguf.GGMLQuantizationType[ggml_type])


_INT, _POINTER, _SIZE, _WIDE = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ggml_quantize_chunk": (_SIZE, _INT, _POINTER, _POINTER, _WIDE, _WIDE, _WIDE, _POINTER),
    "ggml_validate_row_data": (ctypes.c_bool, _INT, _POINTER, _SIZE),
    "ggml_type_name": (ctypes.c_char_p, _INT),
    "ggml_type_size": (_SIZE, _INT),
    "ggml_blck_size": (_WIDE, _INT),
}
"""ggml's functions: type of the result, types of the arguments."""


@cache
def _load() -> SimpleNamespace:
    """Return ggml's functions by name.

    Raises:
        ModelLoadError: the installed ggml lacks one, or has other sizes than the package gguf.
    """
    try:
        lib = SimpleNamespace(**{name: ggml_function(name, *types) for name, types in _SIGNATURES.items()})
    except AttributeError as error:
        raise ModelLoadError(f"the installed llama.cpp cannot quantize ({error} is missing); {_REINSTALL}") from None
    # Buffers are sized by gguf's table, so it must be this library's too.
    for ggml_type in ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL"):
        number = _number(ggml_type)
        sizes = (lib.ggml_blck_size(number), lib.ggml_type_size(number))
        if lib.ggml_type_name(number).decode().upper() != ggml_type or sizes != gguf.GGML_QUANT_SIZES[number]:
            raise ModelLoadError(f"llama.cpp has another {ggml_type} than the package gguf; {_REINSTALL} gguf")
    return lib


@cache
def _dequantizer(ggml_type: str) -> Any:
    rows = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}
    # Functions are called by the type's own spelling: dequantize_row_q4_K.
    symbol = rows.get(ggml_type) or f"dequantize_row_{_load().ggml_type_name(_number(ggml_type)).decode()}"
    try:
        return ggml_function(symbol, None, _POINTER, _POINTER, _WIDE)
    except AttributeError:
        raise ModelLoadError(f"the installed ggml cannot read {ggml_type} ({symbol} is missing)") from None
