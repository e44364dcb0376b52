"""Call functions of ggml, which llama-cpp-python ships beside llama.cpp and has no binding for."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

from aesedge.llm import binding

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t


class GgmlTensor(ctypes.Structure):
    """``struct ggml_tensor`` of ggml.h up to its name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", _pointer),
        ("ne", ctypes.c_int64 * 4),
        ("nb", _size * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", _pointer * 10),
        ("view_src", _pointer),
        ("view_offs", _size),
        ("data", _pointer),
        ("name", ctypes.c_char * 64),
    )


class InitParams(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = (("mem_size", _size), ("mem_buffer", _pointer), ("no_alloc", ctypes.c_bool))


def ggml_function(name: str, restype: Any, *argtypes: Any) -> Any:
    """Return a C function of ggml.

    Raises:
        AttributeError: this version does not have it.
    """
    lib = binding.load()
    places = [lib._lib]  # noqa: SLF001 (elsewhere than on Windows a library finds what it is linked with)
    if sys.platform == "win32":
        folder = Path(lib.__file__).parent / "lib"
        places += [ctypes.CDLL(str(path)) for path in sorted(folder.glob("*ggml*.dll"))]
    place = next((p for p in places if hasattr(p, name)), None)
    if place is None:
        raise AttributeError(name)
    return ctypes.CFUNCTYPE(restype, *argtypes)((name, place))


def extra_buffer_types(device: int) -> list[int]:
    """Return a device's buffer types for weights in another layout (CPU_REPACK), as pointers."""
    registry = ggml_function("ggml_backend_dev_backend_reg", _pointer, _pointer)(device)
    address = backend_function(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    listed = ctypes.CFUNCTYPE(ctypes.POINTER(_pointer), _pointer)(address)(device)
    found: list[int] = []
    i = 0
    while listed and listed[i]:  # the list ends with NULL
        found.append(listed[i])
        i += 1
    return found


def backend_function(registry: int, function: bytes) -> int | None:
    """Return where a function lies that only some backends have, or None."""
    find = ggml_function("ggml_backend_reg_get_proc_address", _pointer, _pointer, ctypes.c_char_p)
    address: int | None = find(registry, function)
    return address
