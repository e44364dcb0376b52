"""The door to the installed ggml: rows of numbers to its types and back; knows no files, models or names of tensors.

The library is the one that llama-cpp-python brings and that the runtime loads, so what is written here is what it will
read. The calls release Python's lock: several threads may work on rows of their own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from aesedge.errors import ModelLoadError

if TYPE_CHECKING:
    import numpy.typing as npt

_NAMES = {"win32": ("ggml-base.dll", "libggml-base.dll"), "darwin": ("libggml-base.dylib", "libggml-base.so")}
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


@cache
def _load() -> Any:
    """Load ggml and declare its functions. The file is looked up without importing llama_cpp, which loads far more."""
    path = _library()
    try:
        lib = ctypes.CDLL(str(path))
        quantize, validate, name = lib.ggml_quantize_chunk, lib.ggml_validate_row_data, lib.ggml_type_name
        type_size, block_size = lib.ggml_type_size, lib.ggml_blck_size
    except (OSError, AttributeError) as error:
        raise ModelLoadError(f"{path}: cannot be used to quantize ({error}); {_REINSTALL}") from None
    pointer, size, wide = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    quantize.argtypes, quantize.restype = [ctypes.c_int, pointer, pointer, wide, wide, wide, pointer], size
    validate.argtypes, validate.restype = [ctypes.c_int, pointer, size], ctypes.c_bool
    name.argtypes, name.restype = [ctypes.c_int], ctypes.c_char_p
    type_size.argtypes, type_size.restype = [ctypes.c_int], size
    block_size.argtypes, block_size.restype = [ctypes.c_int], wide
    # Buffers are sized by gguf's table, so it must be this library's too.
    for ggml_type in ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL"):
        number = _number(ggml_type)
        sizes = (block_size(number), type_size(number))
        if name(number).decode().upper() != ggml_type or sizes != gguf.GGML_QUANT_SIZES[number]:
            raise ModelLoadError(f"{path}: has another {ggml_type} than the package gguf; {_REINSTALL} gguf")
    return lib


def _library() -> Path:
    spec = find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise ModelLoadError(f"llama-cpp-python is not installed; {_REINSTALL}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    names = _NAMES.get(sys.platform, ("libggml-base.so",))
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ModelLoadError(f"{folder}: there is no {' or '.join(names)} in it; {_REINSTALL}")
    if sys.platform == "win32":
        os.add_dll_directory(str(folder))
    return found


@cache
def _dequantizer(ggml_type: str) -> Any:
    lib = _load()
    rows = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}
    # Functions are called by the type's own spelling: dequantize_row_q4_K.
    symbol = rows.get(ggml_type) or f"dequantize_row_{lib.ggml_type_name(_number(ggml_type)).decode()}"
    try:
        function = getattr(lib, symbol)
    except AttributeError:
        raise ModelLoadError(f"the installed ggml cannot read {ggml_type} ({symbol} is missing)") from None
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    return function
