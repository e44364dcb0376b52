"""The native kernels' figures as tables, all matrices of a model together."""
# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from kernel_report import Kernel, KernelReport, KernelRow

from aesedge.bench.number_format import digits, time_text
from aesedge.bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

_TITLES: dict[Kernel, str] = {
    "matmul": "all matrix products of the language model, once",
    "attention": "attention of all layers, once",
    "dequantize": "rows of one matrix to float",
    "vision": "all matrix products of the vision tower, once (ONNX Runtime)",
}
_HEADER = ["type", "weights", "depth", "tokens", "time", "GFLOP/s", "GB/s", "% of bandwidth", "% of peak"]


def kernel_tables(kernels: dict[str, Any]) -> list[tuple[str, Table]]:
    """Return a title and a table for each kind of kernel; columns that nothing stands in are left out."""
    report, found = msgspec.convert(kernels, KernelReport), []
    for kernel, title in _TITLES.items():
        rows = [row for row in report.rows if row.kernel == kernel]
        keys = dict.fromkeys(map(_key, rows))
        cells = [_cells([row for row in rows if _key(row) == key]) for key in keys]
        used = [i for i in range(len(_HEADER)) if any(line[i] for line in cells)]
        if cells:
            found.append((title, Table([_HEADER[i] for i in used], [[line[i] for i in used] for line in cells])))
    return found


def _key(row: KernelRow) -> tuple[str, bool, bool, int, int]:
    """Return what rows of one line have in common; of a tower, whose projector sees fewer rows, all are one."""
    return row.type, row.repacked, row.is_ours, row.depth, 0 if row.kernel == "vision" else row.columns


def _cells(rows: Sequence[KernelRow]) -> list[str]:
    """Return the cells of what differs in its matrices alone; a share of a ceiling is that of the whole time."""
    first = rows[0]
    seconds = sum(_count(row) * row.seconds for row in rows)
    gflop = sum(_count(row) * row.n_operations for row in rows) / 1e9
    gb = sum(_count(row) * row.n_bytes for row in rows) / 1e9
    is_product = first.kernel == "matmul"
    return [
        first.type,
        _weights(first) if is_product else "",
        str(first.depth) if first.depth else "",
        str(_key(first)[-1] or ""),
        time_text(seconds),
        digits(gflop / seconds) if gflop else "",
        digits(gb / seconds),
        _share(rows, [row.percent_of_bandwidth for row in rows], seconds),
        _share(rows, [row.percent_of_peak for row in rows], seconds),
    ]


def _weights(row: KernelRow) -> str:
    return "repacked" if row.repacked else "as in the file" + (", aesedge's kernels" if row.is_ours else "")


def _share(rows: Sequence[KernelRow], percents: Sequence[float | None], seconds: float) -> str:
    known = [percent for percent in percents if percent is not None]
    if len(known) < len(rows):
        return ""
    mean = sum(_count(row) * row.seconds * percent for row, percent in zip(rows, known, strict=True)) / seconds
    return digits(mean, 2)


def _count(row: KernelRow) -> int:
    """Return how often the model has it; what is not the model's own counts once."""
    return row.count or 1
