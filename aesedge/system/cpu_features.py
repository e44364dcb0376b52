"""List the instruction sets of this processor, in the words in which ggml says what it was built with."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import Any

from aesedge.system.commands import command_output, read_text

# ggml's word -> the flags of Linux's /proc/cpuinfo that all must be there.
_LINUX = {
    "SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX2": "avx2", "F16C": "f16c", "FMA": "fma", "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni", "AVX512": "avx512f avx512cd avx512vl avx512dq avx512bw", "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16", "AMX_INT8": "amx_int8",
    "NEON": "asimd", "ARM_FMA": "asimd", "FP16_VA": "asimdhp", "DOTPROD": "asimddp", "MATMUL_INT8": "i8mm",
    "SVE": "sve", "SME": "sme",
}  # fmt: skip
# What `sysctl hw.optional` calls them on macOS.
_APPLE = {
    "SSE3": "sse3", "SSSE3": "supplementalsse3", "AVX": "avx1_0", "AVX2": "avx2_0", "F16C": "f16c", "FMA": "fma",
    "BMI2": "bmi2", "AVX512": "avx512bw", "NEON": "neon", "ARM_FMA": "neon", "FP16_VA": "arm.FEAT_FP16",
    "DOTPROD": "arm.FEAT_DotProd", "MATMUL_INT8": "arm.FEAT_I8MM", "SME": "arm.FEAT_SME",
}  # fmt: skip
_WINDOWS = {"AVX": 39, "AVX2": 40, "AVX512": 41, "NEON": 19, "DOTPROD": 43}
"""Arguments of IsProcessorFeaturePresent. It has none for the others."""

SPEED = ("AVX", "AVX2", "F16C", "FMA", "AVX512", "AVX512_VNNI", "AVX_VNNI", "AMX_INT8", "DOTPROD", "MATMUL_INT8")
"""Those that make ggml's products of quantized matrices faster, the most ordinary first."""


def instructions(root: Path = Path("/"), system: str = "") -> list[str]:
    """Return the instruction sets that a CPU backend could use here; empty where the system does not tell.

    Args:
        root: where ``proc`` lies.
        system: as :func:`platform.system` calls it; empty is this one.
    """
    system = system or platform.system()
    if system == "Darwin":
        told = (command_output(["sysctl", "hw.optional"]) or "").splitlines()
        return [word for word, key in _APPLE.items() if f"hw.optional.{key}: 1" in told]
    if system == "Windows":
        return [word for word, number in _WINDOWS.items() if _windows_has(number)]
    flags = cpu_flags(root)
    return [word for word, needed in _LINUX.items() if flags.issuperset(needed.split())]


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Return Linux's flags of the first processor, lower case; empty elsewhere."""
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.lower().split())
    return frozenset()


def _windows_has(number: int) -> bool:
    kernel: Any = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    return bool(kernel is not None and kernel.IsProcessorFeaturePresent(number))
