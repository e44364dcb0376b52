"""Compile the kernels' check program, natively, under sanitizers, or for another processor."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.kernels import compiler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = Path(compiler.__file__).parent
CHECK = Path(__file__).parent / "check_paths.cpp"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")


def build_check(
    command: Sequence[str], paths: Mapping[str, Sequence[str]], folder: Path, *flags: str, static: bool = False
) -> Path:
    """Compile and link the check of these paths; fails the test where the compiler refuses them."""
    common = [*command, "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", *flags, f"-I{SOURCES}"]
    if "clang" not in command[0]:  # GCC 12 warns of its own headers (gcc.gnu.org/PR105593)
        common += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    has = [f"-DHAS_{name.upper()}" for name in paths]
    parts = {SOURCES / f"{name}.cpp": [*flags_] for name, flags_ in paths.items()}
    parts |= {SOURCES / "path.cpp": has, SOURCES / "path_scalar.cpp": [], SOURCES / "product.cpp": [], CHECK: []}

    def compiled(part: tuple[Path, list[str]]) -> str:
        output = folder / f"{part[0].stem}.o"
        run([*common, "-Werror", *part[1], "-c", str(part[0]), "-o", str(output)])
        return str(output)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, parts.items()))
    program = folder / "check_paths"
    run([*common, *(["-static"] if static else []), *objects, "-o", str(program), "-pthread"])
    return program


def run(command: Sequence[str]) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def found(*names: str) -> str | None:
    """Return the first of these programs that is installed."""
    return next(filter(None, map(shutil.which, names)), None)
