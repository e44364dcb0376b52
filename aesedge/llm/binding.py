"""The one door to llama-cpp-python: imports it on first use and keeps its log; knows nothing of models or text."""

from __future__ import annotations

import ctypes
from collections import deque
from functools import cache
from typing import Any

from aesedge.errors import ModelLoadError

_WARN_OR_ERROR = {3, 4}  # ggml_log_level; 5 continues an earlier line, lower ones are information
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
        import llama_cpp.llama_cpp as lib
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelLoadError(
            f"llama.cpp cannot be loaded ({error}); install it again with: "
            "pip install --force-reinstall llama-cpp-python"
        ) from None
    lib.llama_log_set(_keep_log(lib), ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib


@cache  # ctypes does not keep callbacks alive; llama.cpp calls this one for as long as the process lives
def _keep_log(lib: Any) -> Any:
    def keep(level: int, text: bytes | None, _user_data: object) -> None:
        if level in _WARN_OR_ERROR and text:
            _recent_log.append(text.decode("utf-8", "replace").strip())

    return lib.llama_log_callback(keep)


def version() -> str:
    """Return llama-cpp-python's name and version."""
    load()
    import llama_cpp  # imported already

    return f"llama-cpp-python {llama_cpp.__version__}"


def schema_converter() -> Any:
    """Return llama-cpp-python's converter of JSON schemas to GBNF, which fetches nothing from the network."""
    load()
    from llama_cpp.llama_grammar import SchemaConverter  # the package has imported it already

    return SchemaConverter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)


def clear_log() -> None:
    """Forget llama.cpp's recent complaints, before a call whose complaints matter."""
    _recent_log.clear()


def last_complaint() -> str:
    """Return llama.cpp's most telling recent warning or error, in one line, or an empty string."""
    lines = [line for line in _recent_log if line and line != "."]
    telling = [line for line in lines if "error" in line.lower() or "invalid" in line.lower()]
    line = (telling or lines or [""])[0]
    # "llama_model_load: error loading model: reason" -> "error loading model: reason"
    return " ".join(line.split(": ", 1)[-1].split())
