"""Import llama-cpp-python on first use and capture llama.cpp's log."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import sys
import threading
from collections import deque
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from aesedge.errors import ModelLoadError
from aesedge.system.cuda import missing_cuda_library, preload_cuda_libraries
from aesedge.system.interrupt import Interrupt

_WARN_OR_ERROR = {3, 4}  # ggml_log_level; 5 continues an earlier line, lower ones are information
_PACKAGE = "llama_cpp"
_importing = threading.RLock()
_recent_log: deque[str] = deque(maxlen=20)


@cache
def load() -> Any:
    """Import llama.cpp's C bindings, with its log kept in memory instead of printed.

    Returns:
        The module ``llama_cpp.llama_cpp``. Typed ``Any``: its signatures are generated at run time.

    Raises:
        ModelLoadError: llama-cpp-python is missing or its native library does not load.
    """
    try:
        with Interrupt():  # loading its libraries takes long enough for Ctrl-C
            if _is_built_for_cuda():
                preload_cuda_libraries()
            lib = _module("llama_cpp")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # the last: a library of another version
        library = missing_cuda_library(str(error))
        if library == "libcuda.so.1":
            raise ModelLoadError(
                "this build of llama.cpp runs with NVIDIA's driver only, which is not installed: install it, or "
                "llama.cpp for the CPU with pip install --force-reinstall llama-cpp-python"
            ) from None
        if library is not None:
            raise ModelLoadError(
                f"llama.cpp was built for CUDA, whose {library} is missing: install CUDA's libraries with "
                "pip install 'aesedge[cuda]', or llama.cpp for the CPU with "
                "pip install --force-reinstall llama-cpp-python"
            ) from None
        raise ModelLoadError(
            f"llama.cpp cannot be loaded ({error}); install it again with: "
            "pip install --force-reinstall llama-cpp-python"
        ) from None
    lib.llama_log_set(_keep_log(lib), ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib


@cache  # keeps the callback alive, which ctypes does not
def _keep_log(lib: Any) -> Any:
    def keep(level: int, text: bytes | None, _user_data: object) -> None:
        if level in _WARN_OR_ERROR and text:
            _recent_log.append(text.decode("utf-8", "replace").strip())

    return lib.llama_log_callback(keep)


def _is_built_for_cuda() -> bool:
    """Return whether the installed package brings ggml's CUDA backend."""
    found = importlib.util.find_spec(_PACKAGE)
    folders = (found.submodule_search_locations if found else None) or ()
    return any(next(Path(folder).glob("lib/*ggml-cuda*"), None) for folder in folders)


def version() -> str:
    """Return llama-cpp-python's name and version."""
    return f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"


def build_again(flag: str) -> str:
    """Return the shell command that compiles this version of llama-cpp-python with a CMake flag.

    Args:
        flag: CMake's, such as ``-DGGML_CUDA=on``.
    """
    try:
        wanted = f"llama-cpp-python=={importlib.metadata.version('llama-cpp-python')}"
    except importlib.metadata.PackageNotFoundError:
        wanted = "llama-cpp-python"
    # Past pip's cache, which does not know one build from another and would bring the same one back.
    install = f"pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python {wanted}"
    return f'$env:CMAKE_ARGS="{flag}"; {install}' if sys.platform == "win32" else f'CMAKE_ARGS="{flag}" {install}'


@cache
def _module(name: str) -> Any:
    """Import one module of llama-cpp-python, and not the package around it.

    The package would import jinja2, diskcache and more, in 0.25 s, which are not used here. Code that imports the
    package itself, before or after, gets all of it.
    """
    with _importing:
        if _PACKAGE in sys.modules:
            return importlib.import_module(f"{_PACKAGE}.{name}")
        found = importlib.util.find_spec(_PACKAGE)
        if found is None:
            raise ImportError(f"No module named {_PACKAGE!r}")
        stand_in = sys.modules[_PACKAGE] = ModuleType(_PACKAGE)
        stand_in.__path__ = list(found.submodule_search_locations or [])
        try:
            return importlib.import_module(f"{_PACKAGE}.{name}")
        finally:
            for loaded in [m for m in list(sys.modules) if m == _PACKAGE or m.startswith(f"{_PACKAGE}.")]:
                del sys.modules[loaded]


def clear_log() -> None:
    """Clear the captured log, before a call whose warnings matter."""
    _recent_log.clear()


def last_complaint() -> str:
    """Return llama.cpp's most specific recent warning or error in one line, or an empty string."""
    lines = [line for line in _recent_log if line and line != "."]
    telling = [line for line in lines if "error" in line.lower() or "invalid" in line.lower()]
    line = (telling or lines or [""])[0]
    # "llama_model_load: error loading model: reason" -> "error loading model: reason"
    return " ".join(line.split(": ", 1)[-1].split())


def reason() -> str:
    """Return why llama.cpp's last call failed, as far as its log tells."""
    return last_complaint() or "no reason given"
