"""Every path gives the bits of the scalar one, and that one what its blocks say; see check_paths.cpp."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest
from native import SANITIZERS, build_check, found, run

from aesedge.kernels import compiler

if TYPE_CHECKING:
    from pathlib import Path

IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}
PATHS = compiler._X86 if IS_X86 else compiler._ARM
COMPILER = compiler.find_compiler()
ARM_COMPILER, ARM_EMULATOR = found("aarch64-linux-gnu-g++"), found("qemu-aarch64", "qemu-aarch64-static")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_all_paths_of_this_cpu_are_right_under_sanitizers(tmp_path: Path) -> None:
    lines = run([str(build_check(COMPILER or [], PATHS, tmp_path, *SANITIZERS))]).splitlines()
    assert len(lines) == len(PATHS) + 1
    assert lines[-1] == "scalar: right"
    assert all(line.endswith((": right", ": not on this CPU")) for line in lines)


@pytest.mark.skipif(ARM_COMPILER is None, reason="no aarch64-linux-gnu-g++")
@pytest.mark.skipif(ARM_EMULATOR is None, reason="no qemu-aarch64")
def test_paths_of_arm_are_right_in_an_emulator(tmp_path: Path) -> None:
    program = build_check([ARM_COMPILER or ""], compiler._ARM, tmp_path, static=True)
    lines = run([ARM_EMULATOR or "", "-cpu", "max", str(program)]).splitlines()
    assert lines == [*(f"{name.removeprefix('path_')}: right" for name in compiler._ARM), "scalar: right"]
