"""Compile the backend's sources: each path with the flags of its instructions, which the rest must not use."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from aesedge.system.machine import n_cores

_FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden",
    "-ffp-contract=off",  # every path makes the same sums
    "-w",  # what a warning says is no business of users; CMake's presets compile the same sources with -Wall -Wextra
)  # fmt: skip
_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")
_COMMON = {"backend": (), "product": (), "team": (), "path_scalar": ("-O1",)}
_X86 = {"path_avx512": (*_AVX2, *_AVX512), "path_avx2": _AVX2, "path_avx_vnni": (*_AVX2, "-mavxvnni")}
_ARM = {
    "path_i8mm": ("-march=armv8.2-a+dotprod+fp16+i8mm",),
    "path_dotprod": ("-march=armv8.2-a+dotprod+fp16",),
}
_TIMEOUT_S = 180.0


class CompileError(Exception):
    """The sources do not compile here; the text is one line."""


class Sources(NamedTuple):
    """What is compiled, and for which ggml."""

    folder: Path
    include: Path
    """ggml's headers."""
    libraries: Path
    """Folder of ggml's libraries, to link with."""
    ggml: str
    """Version and commit."""


def find_compiler() -> list[str] | None:
    """Return the command of the C++ compiler: the variable CXX, else the first of c++, g++ and clang++ on PATH."""
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    return None


def compile_library(compiler: list[str], sources: Sources, path: Path) -> None:
    """Compile and link the library, whole or not at all.

    Raises:
        CompileError: the compiler refuses them.
        OSError: the folder cannot be written.
    """
    paths = _X86 if platform.machine().lower() in {"x86_64", "amd64"} else _ARM
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=path.parent) as folder:
        objects = Path(folder)

        def compiled(name: str, flags: tuple[str, ...]) -> Path:
            output = objects / f"{name}.o"
            command = [*compiler, *_FLAGS, *flags, f"-I{sources.include}", f'-DAESEDGE_GGML="{sources.ggml}"']
            _run([*command, "-c", str(sources.folder / f"{name}.cpp"), "-o", str(output)], objects)
            return output

        def compiled_if_known(name: str) -> Path | None:
            try:
                return compiled(name, paths[name])
            except CompileError:  # a compiler that is older than the instructions
                return None

        with ThreadPoolExecutor(n_cores()) as pool:
            optional = pool.map(compiled_if_known, paths)
            made = list(pool.map(compiled, _COMMON, _COMMON.values()))
            fast = {name: output for name, output in zip(paths, optional, strict=True) if output is not None}
        if not fast:
            raise CompileError(f"{shlex.join(compiler)} knows none of the instructions; a newer compiler may")
        made += [*fast.values(), compiled("path", tuple(f"-DHAS_{name.upper()}" for name in fast))]
        linked = objects / path.name
        _run([*compiler, "-shared", *map(str, made), "-o", str(linked), *_link_flags(sources.libraries)], objects)
        linked.replace(path)


def _link_flags(libraries: Path) -> list[str]:
    flags = [f"-L{libraries}", "-lggml", "-lggml-base"]
    return [*flags, f"-Wl,-rpath,{libraries}"] if sys.platform == "darwin" else [*flags, "-ldl", "-lpthread"]


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (the machine's own compiler)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{command[0]} did not run: {error}") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        said = next((line for line in lines if "error" in line.lower()), (lines or ["no reason given"])[-1])
        raise CompileError(f"{command[0]} cannot compile the kernels: {said.strip()[:200]}")
