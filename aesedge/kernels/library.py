"""Find the compiled backend for the installed ggml, or compile it with the machine's C++ compiler in some seconds."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
import sys
from pathlib import Path
from typing import NamedTuple

from aesedge.kernels.compiler import CompileError, Sources, compile_library, find_compiler
from aesedge.system.atomic_file import write_atomic
from aesedge.system.commands import read_text
from aesedge.system.paths import cache_folder

_KNOWN_GGML = ("0.25.3",)
"""Versions of ggml whose backend interface backend_abi.h describes."""
_MARK = b"aesedge kernels for ggml "
_SOURCES = Path(__file__).resolve().parent
CLONE_FOLDER = _SOURCES.parents[1] / "build" / "kernels" / "lib"
_log = logging.getLogger("aesedge")


class Library(NamedTuple):
    """The compiled backend, or why there is none."""

    path: Path | None
    reason: str = ""
    """Why there is none, in one line; empty where there is one."""


class _Ggml(NamedTuple):
    identity: str
    """Version and commit."""
    include: Path
    libraries: Path


def find_library(  # noqa: PLR0911 (one for each reason)
    loaded_ggml: str | None, *, retry: bool = False, folder: Path | None = None
) -> Library:
    """Return the backend for a ggml, compiled now if it was not compiled before.

    Args:
        loaded_ggml: version and commit of the ggml that is loaded; None is the one whose headers are installed.
        retry: whether to compile again what failed to compile before.
        folder: where to put it; None is the user's cache folder.
    """
    ggml = _installed_ggml(loaded_ggml)
    if isinstance(ggml, str):
        return Library(None, ggml)
    sources = Sources(_SOURCES, ggml.include, ggml.libraries, ggml.identity)
    name = f"libaesedge-kernels-{_key(sources)}{'.dylib' if sys.platform == 'darwin' else '.so'}"
    own = folder or cache_folder() / "kernels"
    for place in (own, CLONE_FOLDER):
        if is_for(place / name, ggml.identity):
            return Library(place / name)
    failure = own / f"{name}.failed"
    before = None if retry else read_text(failure)
    if before:
        return Library(None, before)
    compiler = find_compiler()
    if compiler is None:
        return Library(None, "no C++ compiler was found (c++, g++, clang++, or the variable CXX)")
    _log.info("compiling the matrix kernels for this machine, once")
    try:
        own.mkdir(parents=True, exist_ok=True)
        compile_library(compiler, sources, own / name)
    except OSError as error:
        return Library(None, f"{own}: the kernels cannot be written there: {error.strerror or error}")
    except CompileError as error:
        with contextlib.suppress(OSError):
            write_atomic(failure, str(error).encode(), own=True)
        return Library(None, str(error))
    if not is_for(own / name, ggml.identity):
        return Library(None, f"{own / name}: was not compiled for ggml {ggml.identity}")
    with contextlib.suppress(OSError):
        failure.unlink(missing_ok=True)
    return Library(own / name)


def is_for(path: Path, ggml: str) -> bool:
    """Return whether a library says in its bytes that it was compiled for this ggml; it is not loaded for that."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    start = data.find(_MARK)
    return start >= 0 and data[start + len(_MARK) : data.find(b"\0", start)] == ggml.encode()


def _installed_ggml(loaded: str | None) -> _Ggml | str:  # noqa: PLR0911 (one for each reason)
    """Return the ggml whose headers are installed, or why the backend cannot be compiled for it."""
    if sys.platform not in {"linux", "darwin"}:
        return f"there are none for {platform.system()}"
    if platform.machine().lower() not in {"x86_64", "amd64", "aarch64", "arm64"}:
        return f"there are none for {platform.machine()} processors"
    try:
        wheel = importlib.metadata.distribution("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        return "llama-cpp-python is not installed"
    site = Path(str(wheel.locate_file("")))
    config = read_text(site / "lib" / "cmake" / "ggml" / "ggml-config.cmake") or ""
    found = dict(re.findall(r'set\((GGML_VERSION|GGML_BUILD_COMMIT) "([^"]*)"\)', config))
    if len(found) != 2 or not (site / "include" / "ggml-backend.h").is_file():
        return "llama-cpp-python was installed without ggml's headers"
    identity = f"{found['GGML_VERSION']} {found['GGML_BUILD_COMMIT']}"
    if loaded not in {None, identity}:
        return f"the headers are of ggml {identity}, the loaded library is of {loaded}; install llama-cpp-python again"
    if found["GGML_VERSION"] not in _KNOWN_GGML:
        return f"they are made for ggml {', '.join(_KNOWN_GGML)}, not for {found['GGML_VERSION']}"
    return _Ggml(identity, site / "include", site / "llama_cpp" / "lib")


def _key(sources: Sources) -> str:
    """Return a short hash of everything that the library depends on, the compiler excepted."""
    digest = hashlib.sha256(f"{sources.ggml}\n{sources.libraries}\n{platform.machine()}\n".encode())
    for path in sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h"), _SOURCES / "compiler.py"]):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    digest.update(os.environ.get("CXX", "").encode())
    return digest.hexdigest()[:16]
