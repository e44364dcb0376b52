"""Let llama.cpp compute products of quantized weights with aesedge's own kernels (:mod:`aesedge.kernels`).

llama.cpp gives every context the accelerators that ggml knows when it is opened, so the kernels are registered only
meanwhile: other contexts of this process are as if there were none.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from aesedge.kernels import find_library
from aesedge.llm import binding
from aesedge.llm.ggml import ggml_function

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aesedge.kernels import Library

_registering = threading.RLock()
_log = logging.getLogger("aesedge")


class Kernels(NamedTuple):
    """The kernels of this process, or why there are none."""

    path: str = ""
    """Name of the instructions that they use: avx512, avx-vnni, avx2, i8mm, dotprod; empty where there are none."""
    reason: str = ""
    """Why there are none, in one line."""
    library: Path | None = None


@cache
def kernels() -> Kernels:
    """Return the kernels, compiled now if they were not before. They are never those of another ggml."""
    with _registering:
        return _load(find_library(_loaded_ggml()))


def _load(found: Library) -> Kernels:
    if found.path is None:
        return Kernels(reason=found.reason)
    try:
        library = _mapped(str(found.path))
    except OSError as error:
        return Kernels(reason=f"{found.path}: cannot be loaded: {error}")
    library.aesedge_kernels_path.restype = ctypes.c_char_p
    name = library.aesedge_kernels_path()
    if not name:
        return Kernels(reason="this processor has none of the instructions that they are written for")
    return Kernels(path=name.decode(), library=found.path)


@cache  # stays mapped when ggml closes it: contexts go on using it
def _mapped(path: str) -> ctypes.CDLL:
    return ctypes.CDLL(path)


def kernels_in_use(*, wanted: bool) -> str:
    """Return the name of the instructions that a context computes with if the kernels are wanted; else nothing."""
    return kernels().path if wanted else ""


@contextmanager
def accelerated(*, wanted: bool) -> Iterator[None]:
    """Let contexts that are opened meanwhile use the kernels, where there are any."""
    found = kernels() if wanted else Kernels()
    if found.library is None:
        yield
        return
    with _registering:
        registry = ggml_function("ggml_backend_load", ctypes.c_void_p, ctypes.c_char_p)(str(found.library).encode())
        if not registry:
            _log.warning("%s: ggml does not take it: %s", found.library, binding.reason())
        try:
            yield
        finally:
            if registry:
                ggml_function("ggml_backend_unload", None, ctypes.c_void_p)(registry)


def _loaded_ggml() -> str:
    """Return version and commit of the ggml that llama.cpp uses."""
    version, commit = (ggml_function(name, ctypes.c_char_p)() or b"" for name in ("ggml_version", "ggml_commit"))
    return f"{version.decode()} {commit.decode()}"
