"""Figures of the very kernels that the runtime runs, from kernels_bench, which is in the clone alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.bench.ceilings import clone_module
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bench.ceilings import Device
    from aesedge.bench.result import Result
    from aesedge.bench.tables import Table
    from aesedge.engine.model import Model

    Report = dict[str, Any]
    """A ``KernelReport`` of kernels_bench/kernel_report.py, in plain data."""

_SECONDS = 60.0
"""For all kernels together; making their data comes on top."""
_TIMEOUT_S = 4 * 3600.0
ELSEWHERE = "figures of kernels; a clone of aesedge shows them"


def require_kernels(device: Device) -> Any:
    """Return the module that runs the native programs.

    Raises:
        AesedgeError: they are not built, or with another ggml than the installed one.
    """
    programs = clone_module("native_programs")
    if programs is None:
        raise AesedgeError(
            "the native benchmarks are in a clone of aesedge alone; install it from there: pip install -e ."
        )
    programs.require_native(device)
    return programs


def time_kernels(
    model: Model, device: Device, ceilings: dict[str, Any], progress: Callable[[Report | None], None]
) -> Report:
    """Check and time every kernel at the shapes of an open model, in a process of its own.

    Args:
        model: the model.
        device: where.
        ceilings: what was measured before; they are measured again afterwards.
        progress: called for every line that is printed, with what there is where one of the programs has ended.

    Raises:
        AesedgeError: the programs are not built or not with this ggml, or a kernel's results are wrong.
    """
    programs = require_kernels(device)
    llm = model.llm
    command = [
        sys.executable, str(Path(programs.__file__).with_name("kernel_report.py")),
        "--gguf", str(model.bundle.path("llm", model.gguf)), "--type", model.gguf.lower(), "--name", model.bundle.name,
        "--heads", f"{llm.n_head},{llm.n_head_kv},{llm.n_embd // llm.n_head},{llm.n_layer}",
        "--threads", str(model.plan.threads_batch), "--seconds", str(_SECONDS), "--device", device,
        "--ceilings", msgspec.json.encode(ceilings).decode(),
    ]  # fmt: skip

    def hear(line: str) -> None:
        progress(msgspec.json.decode(line, type=dict[str, Any]) if line.startswith("{") else None)

    report: Report = programs.run_native(command, timeout_s=_TIMEOUT_S, progress=hear)
    return report


def kernel_tables(result: Result) -> list[tuple[str, Table]]:
    """Return titles and tables of what was found about kernels; none where there is nothing, or no clone to show it.

    Raises:
        UsageError: the file that the result was read from holds something else there.
    """
    script = clone_module("kernel_tables") if result.kernels is not None else None
    tables: list[tuple[str, Table]] = _told(script.kernel_tables, result.kernels) if script is not None else []
    return tables


def draw_roofline(result: Result, path: Path) -> None:
    """Draw the products as PNG, whole or not at all.

    Raises:
        UsageError: this is no clone, or the result holds something else there.
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    script = clone_module("roofline")
    if script is None:
        raise UsageError(f"{path}: {ELSEWHERE}")
    _told(script.draw_roofline, result.kernels, path)


def _told(do: Callable[..., Any], *given: object) -> Any:
    try:
        return do(*given)
    except msgspec.ValidationError as error:
        raise UsageError(f"the result's figures of kernels cannot be read: {error}; the file was altered") from None
