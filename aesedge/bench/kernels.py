"""Figures of the very kernels that the runtime runs, from kernels_bench, which is in the clone alone."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.bench.native import CLONE, require_native, run_native
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aesedge.bench.native import Device
    from aesedge.bench.result import Result
    from aesedge.bench.tables import Table
    from aesedge.engine import Model

    Report = dict[str, Any]
    """A ``KernelReport`` of kernels_bench/kernel_report.py, in plain data."""

_FOLDER = CLONE / "kernels_bench"
_SECONDS = 60.0
"""For all kernels together; making their data comes on top."""
_TIMEOUT_S = 4 * 3600.0
ELSEWHERE = "figures of kernels; a clone of aesedge shows them"


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
    require_native(device)
    llm = model.llm
    command = [
        sys.executable, str(_FOLDER / "kernel_report.py"),
        "--gguf", str(model.bundle.path("llm", model.gguf)), "--type", model.gguf.lower(), "--name", model.bundle.name,
        "--heads", f"{llm.n_head},{llm.n_head_kv},{llm.n_embd // llm.n_head},{llm.n_layer}",
        "--threads", str(model.plan.threads_batch), "--seconds", str(_SECONDS), "--device", device,
        "--ceilings", msgspec.json.encode(ceilings).decode(),
    ]  # fmt: skip

    def hear(line: str) -> None:
        progress(msgspec.json.decode(line, type=dict[str, Any]) if line.startswith("{") else None)

    return run_native(command, timeout_s=_TIMEOUT_S, progress=hear)


def kernel_tables(result: Result) -> list[tuple[str, Table]]:
    """Return titles and tables of what was found about kernels; none where there is nothing, or no clone to show it.

    Raises:
        UsageError: the file that the result was read from holds something else there.
    """
    script = _script("kernel_tables") if result.kernels is not None else None
    tables: list[tuple[str, Table]] = _told(script.kernel_tables, result.kernels) if script is not None else []
    return tables


def draw_roofline(result: Result, path: Path) -> None:
    """Draw the products as PNG, whole or not at all.

    Raises:
        UsageError: this is no clone, or the result holds something else there.
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    script = _script("roofline")
    if script is None:
        raise UsageError(f"{path}: {ELSEWHERE}")
    _told(script.draw_roofline, result.kernels, path)


def _told(do: Callable[..., Any], *given: object) -> Any:
    try:
        return do(*given)
    except msgspec.ValidationError as error:
        raise UsageError(f"the result's figures of kernels cannot be read: {error}; the file was altered") from None


def _script(name: str) -> Any:
    """Return a module of kernels_bench, or None where this is no clone."""
    if not (_FOLDER / f"{name}.py").is_file():
        return None
    if str(_FOLDER) not in sys.path:
        sys.path.append(str(_FOLDER))
    return importlib.import_module(name)
