"""Figures of the very kernels that the runtime runs, from kernels_bench, which is in the clone alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import msgspec

from aesedge.bench.ceilings import Ceilings
from aesedge.bench.native import CLONE, require_native, run_native

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bench.native import Device
    from aesedge.engine import Model

Kernel = Literal["matmul", "attention", "dequantize", "vision"]
_SECONDS = 60.0
"""For all kernels together; making their data comes on top."""
_TIMEOUT_S = 4 * 3600.0


class KernelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel at one shape."""

    kernel: Kernel
    name: str
    """Of the matrix or the heads in the file of shapes."""
    type: str
    """Of the weights; of attention: ``f16`` and ``q8_0`` fused, ``plain`` in f16 and not fused."""
    columns: int
    """Tokens that are computed together; 0 for dequantization."""
    repacked: bool
    memory: str
    """ggml's name of the kind of memory that the weights lie in."""
    depth: int
    """Positions in the KV cache; 0 but for attention."""
    count: int
    """How often the model has it."""
    n_bytes: float
    """What must be read once: weights, keys and values; of dequantization what is written too."""
    n_operations: float
    seconds: float
    """Median of the samples."""
    seconds_min: float
    gflop_per_s: float
    gb_per_s: float
    percent_of_bandwidth: float | None
    percent_of_peak: float | None
    """Of the float peak for float types and attention, of the 8-bit peak for all others."""
    samples_s: list[float]


class KernelReport(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a run."""

    shape: str
    device: str
    host: str
    n_threads: int
    ggml: str
    """Version and commit."""
    ceilings: Ceilings
    rows: list[KernelRow]
    skipped: list[str]
    """What there is no kernel or no room for."""
    excluded: dict[str, str]
    """By kernel: what its figures do not contain."""


def time_kernels(
    model: Model, device: Device, ceilings: Ceilings, progress: Callable[[KernelReport | None], None]
) -> KernelReport:
    """Check and time every kernel at the shapes of an open model, in a process of its own.

    Args:
        model: the model.
        device: where.
        ceilings: what was measured before; they are measured again afterwards.
        progress: called for every line that is printed, with what there is where one of the programs has ended.

    Raises:
        AesedgeError: the programs are not built or not with this ggml, or a kernel's results are wrong.
    """
    require_native(device)
    llm = model.llm
    command = [
        sys.executable, str(CLONE / "kernels_bench" / "kernel_report.py"),
        "--gguf", str(model.bundle.path("llm", model.gguf)), "--type", model.gguf.lower(), "--name", model.bundle.name,
        "--heads", f"{llm.n_head},{llm.n_head_kv},{llm.n_embd // llm.n_head},{llm.n_layer}",
        "--threads", str(model.plan.threads_batch), "--seconds", str(_SECONDS), "--device", device,
        "--ceilings", msgspec.json.encode(ceilings).decode(),
    ]  # fmt: skip

    def hear(line: str) -> None:
        progress(msgspec.json.decode(line, type=KernelReport) if line.startswith("{") else None)

    return msgspec.convert(run_native(command, timeout_s=_TIMEOUT_S, progress=hear), KernelReport)
