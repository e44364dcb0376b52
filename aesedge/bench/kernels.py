"""Hand the native kernels' part of a result to kernels_bench, which only a clone has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.bench.ceilings import clone_module
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aesedge.bench.ceilings import Device
    from aesedge.bench.result import Result
    from aesedge.bench.tables import Table

ELSEWHERE = "figures of kernels; a clone of aesedge shows them"


def require_kernels(device: Device) -> Any:
    """Return the module that runs the native programs at a model's shapes.

    Raises:
        AesedgeError: they are not built, or with another ggml than the installed one.
    """
    programs = clone_module("native_programs")
    if programs is None:
        raise AesedgeError(
            "the native benchmarks are in a clone of aesedge alone; install it from there: pip install -e ."
        )
    programs.require_native(device)
    return clone_module("kernel_report")


def kernel_tables(result: Result) -> list[tuple[str, Table]]:
    """Return titles and tables of the kernels; none where there is nothing, or no clone to show it.

    Raises:
        UsageError: the file that the result was read from holds something else there.
    """
    script = clone_module("kernel_tables") if result.kernels is not None else None
    tables: list[tuple[str, Table]] = _checked(script.kernel_tables, result.kernels) if script is not None else []
    return tables


def draw_roofline(result: Result, path: Path) -> None:
    """Draw the matrix products as PNG, whole or not at all.

    Raises:
        UsageError: this is no clone, or the result holds something else there.
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    script = clone_module("roofline")
    if script is None:
        raise UsageError(f"{path}: {ELSEWHERE}")
    _checked(script.draw_roofline, result.kernels, path)


def _checked(do: Callable[..., Any], *given: object) -> Any:
    try:
        return do(*given)
    except msgspec.ValidationError as error:
        raise UsageError(f"the result's figures of kernels cannot be read: {error}; the file was altered") from None
