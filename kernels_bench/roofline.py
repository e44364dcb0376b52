"""Draw the roofline of a kernel report: speed over arithmetic intensity, under the slope of memory and the peaks."""
# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from kernel_report import KernelReport

from aesedge.bench.plot import COLORS, clean, new_figure, tidy

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bench.ceilings import Ceilings
    from aesedge.bench.plot import Axes

_INK, _GIGA = "#222222", 1e9


class _Point(NamedTuple):
    columns: int
    intensity: float
    """Operations per byte of weights."""
    gflop_per_s: float


def draw_roofline(kernels: dict[str, Any], path: Path) -> None:
    """Draw the products of a report, all of the model's matrices together; write it whole or not at all.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    report = msgspec.convert(kernels, KernelReport)
    lines = _lines(report)
    with new_figure(path) as figure:
        axes = figure.subplots()
        for n, ((type_, repacked, is_ours), points) in enumerate(lines.items()):
            x, y = [point.intensity for point in points], [point.gflop_per_s for point in points]
            label = type_ + (", repacked" if repacked else ", aesedge's kernels" if is_ours else "")
            axes.loglog(
                x, y, "s-" if repacked else "^-" if is_ours else "o-", color=COLORS[n % len(COLORS)], label=label
            )
        _roof(axes, report.ceilings)
        threads = "1 thread" if report.n_threads == 1 else f"{report.n_threads} threads"
        axes.set_title(clean(f"{report.shape} on {report.device}, {threads}", 100), loc="left")
        axes.set_xlabel("operations per byte of weights read")
        axes.set_ylabel("GFLOP/s")
        axes.grid(color="#e2e2e2")
        tidy(axes)
        if lines:
            columns = ", ".join(str(point.columns) for point in max(lines.values(), key=len))
            title = f"points of a line, left to right:\n{columns} columns"
            figure.legend(loc="outside right upper", title=title, title_fontsize="small")


def _roof(axes: Axes, ceilings: Ceilings) -> None:
    """Draw the peaks, each from where memory can feed it, and the slope of memory up to the highest of them."""
    peaks = {"int8": ceilings.int8_ops_per_s, "FMA": ceilings.fma_flops_per_s}
    known = {name: value / _GIGA for name, value in peaks.items() if value}
    slope = (ceilings.read_bytes_per_s or 0) / _GIGA
    first, last = axes.get_xlim()
    last *= 2
    for name, value in known.items():
        axes.plot([max(first, value / slope) if slope else first, last], [value, value], color=_INK)
        axes.annotate(f"{name} {value:.0f} GFLOP/s", (last, value), (-4, 4), textcoords="offset points", ha="right")
    if slope:
        end = min(last, max(known.values(), default=last * slope) / slope)
        axes.plot([min(first, end), end], [min(first, end) * slope, end * slope], color=_INK)
        text = f"memory: {slope:.1f} GB/s"
        axes.annotate(text, (end, end * slope), (-14, -4), textcoords="offset points", ha="right")


def _lines(report: KernelReport) -> dict[tuple[str, bool, bool], list[_Point]]:
    """Return points by type, repacking and whose kernels they are, each of them all matrices of the model."""
    rows = [row for row in report.rows if row.kernel == "matmul"]
    lines: dict[tuple[str, bool, bool], list[_Point]] = {}
    for key in dict.fromkeys((row.type, row.repacked, row.is_ours, row.columns) for row in rows):
        same = [row for row in rows if (row.type, row.repacked, row.is_ours, row.columns) == key]
        n_operations = sum(row.count * row.n_operations for row in same)
        n_bytes = sum(row.count * row.n_bytes for row in same)
        seconds = sum(row.count * row.seconds for row in same)
        point = _Point(key[3], n_operations / n_bytes, n_operations / seconds / _GIGA)
        lines.setdefault(key[:3], []).append(point)
    return {key: sorted(points) for key, points in lines.items()}
