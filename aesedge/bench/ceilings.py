"""Measure what this machine could do at best: reading memory, float and 8-bit arithmetic.

A ceiling is the best of several runs, not their median: a disturbed run is only slower.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.errors import AesedgeError

if TYPE_CHECKING:
    from collections.abc import Callable

Device = Literal["cpu", "gpu"]
_SCRIPTS = Path(__file__).resolve().parent.parent.parent / "kernels_bench"
"""In the clone, if the package is installed from one in place."""
_ARRAY_BYTES = 256 << 20  # beyond the caches of common machines
_N_SQUARE = 1536
_TIMEOUT_S = 60.0
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """The best that was measured; None for what was not."""

    read_bytes_per_s: float | None = None
    """Reading memory, all threads."""
    fma_flops_per_s: float | None = None
    """Float multiply-add, counted as two operations; on a GPU a large product of f16 weights."""
    int8_ops_per_s: float | None = None
    """8-bit dot products, counted likewise."""
    source: str
    """What measured it, and with which instructions."""


def clone_module(name: str) -> Any:
    """Return a module of kernels_bench, or None where this is no clone."""
    if not (_SCRIPTS / f"{name}.py").is_file():
        return None
    if str(_SCRIPTS) not in sys.path:
        sys.path.append(str(_SCRIPTS))
    return importlib.import_module(name)


def better(before: Ceilings, after: Ceilings) -> Ceilings:
    """Return the best of both: other programs may have disturbed one of them."""
    best = {
        name: max(getattr(before, name) or 0, getattr(after, name) or 0) or None
        for name in ("read_bytes_per_s", "fma_flops_per_s", "int8_ops_per_s")
    }
    return Ceilings(**best, source=f"{after.source}; the better of before and after")


def measure_ceilings(n_threads: int, device: Device = "cpu") -> Ceilings:
    """Measure for two to three seconds, with the native programs where they are built."""
    reason = ""
    programs = clone_module("native_programs")
    folder = programs.native_folder(device) if programs is not None else None
    if folder is not None:
        try:
            found: Ceilings = programs.measure_ceilings(folder, n_threads, device)
        except AesedgeError as error:
            reason = f" ({error})"
        else:
            return found
    if device == "gpu":
        why = f"not measured: kernels_bench is not built for a GPU{reason}; make kernels PRESET=cuda (or metal)"
        return Ceilings(source=why)
    # In a process of its own: BLAS reads its number of threads from the environment when it is loaded.
    script = f"from {__name__} import numpy_rates as r; print(*r({n_threads}))"
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | dict.fromkeys(_BLAS_THREADS, str(n_threads)),
            timeout=_TIMEOUT_S,
        )
        read, fma = map(float, done.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Ceilings(source=f"not measured: kernels_bench is not built{reason}, and numpy failed: {error}")
    source = (
        f"numpy, {n_threads} threads: sums of 256 MiB, BLAS's float product; lower bounds, and none for 8 bits. "
        f"`make kernels` builds what measures all of it{reason}"
    )
    return Ceilings(read_bytes_per_s=read, fma_flops_per_s=fma, source=source)


def numpy_rates(n_threads: int) -> tuple[float, float]:
    """Return bytes read and float operations per second, as numpy reaches them."""
    import numpy as np

    values = np.ones(_ARRAY_BYTES // 8, np.int64)
    slices = np.array_split(values, n_threads)
    with ThreadPoolExecutor(n_threads) as pool:  # numpy lets other threads run while it sums
        read_s = _least_seconds(lambda: sum(int(part) for part in pool.map(np.sum, slices)))
    square = np.ones((_N_SQUARE, _N_SQUARE), np.float32)
    result = np.empty_like(square)
    product_s = _least_seconds(lambda: np.matmul(square, square, out=result))
    return values.nbytes / read_s, 2 * _N_SQUARE**3 / product_s


def _least_seconds(work: Callable[[], object], budget_s: float = 0.7) -> float:
    """Return the least time of several runs after one that warms up."""
    work()
    taken: list[float] = []
    while sum(taken) < budget_s or len(taken) < 3:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
