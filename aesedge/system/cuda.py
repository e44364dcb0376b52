"""Tell whether CUDA has a GPU here, and find its libraries where PyPI's packages put them."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

_LIBRARIES = ("cudart", "nvrtc", "nvJitLink", "cublasLt", "cublas", "curand", "cufft", "cudnn")
"""What llama.cpp and ONNX Runtime are linked with; each may need those before it."""
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE, with which cuInit answers
_MISSING = re.compile(r"(lib(?:cu|nv)[\w.+-]*\.so[\d.]*): cannot open shared object file")


@cache
def no_cuda_gpu() -> str:
    """Return why CUDA has no GPU to compute on, as the end of a sentence; empty if it has one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "NVIDIA's driver is not installed"
    n_gpus = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(n_gpus))
    if status not in {0, _NO_DEVICE}:
        return f"NVIDIA's driver answers with error {status}"
    return "" if n_gpus.value else "NVIDIA's driver sees no GPU"


@cache
def preload_cuda_libraries() -> None:
    """Load the CUDA libraries of PyPI's ``nvidia-`` packages, so that what is linked with them finds them.

    They lie below ``site-packages/nvidia``, where the system does not look without LD_LIBRARY_PATH.
    """
    package = importlib.util.find_spec("nvidia") if sys.platform == "linux" else None
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    for name in _LIBRARIES:
        for path in sorted(found for folder in folders for found in folder.glob(f"*/lib/lib{name}.so.*")):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:  # the one who needs it says so
                continue


def missing_cuda_library(message: str) -> str | None:
    """Return the CUDA library whose absence a loader's message tells of, or None."""
    found = _MISSING.search(message)
    return found[1] if found else None
