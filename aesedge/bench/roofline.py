"""The roofline of a kernel report as PNG: speed over arithmetic intensity, under the slope of memory and the peaks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from aesedge.plot import BOTTOM, COLORS, LEFT, RIGHT, SIZE, TOP, save_png

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bench.kernels import KernelReport

_INK, _FAINT, _GRID = "#222222", "#888888", "#e2e2e2"
_GIGA = 1e9


class _Point(NamedTuple):
    columns: int
    intensity: float
    """Operations per byte of weights."""
    gflop_per_s: float


def draw_roofline(report: KernelReport, path: Path) -> None:
    """Draw the products of a report, all of the model's matrices together; write it whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    image = Image.new("RGB", SIZE, "white")
    _Drawing(report, ImageDraw.Draw(image)).draw()
    save_png(image, path)


class _Drawing:
    """A roofline on its way to pixels."""

    def __init__(self, report: KernelReport, pen: ImageDraw.ImageDraw) -> None:
        self._report, self._pen = report, pen
        self._font, self._small, self._large = (ImageFont.load_default(size) for size in (17, 14, 21))
        self._lines = _lines(report)
        ceilings, points = report.ceilings, [point for line in self._lines.values() for point in line]
        peaks = [("int8", ceilings.int8_ops_per_s), ("FMA", ceilings.fma_flops_per_s)]
        self._peaks = [(name, value / _GIGA) for name, value in peaks if value]
        speeds = [point.gflop_per_s for point in points] + [value for _, value in self._peaks] or [1.0]
        intensities = [point.intensity for point in points] or [1.0]
        self._x = _powers(min(intensities), max(intensities))
        self._y = _powers(min(speeds), max(speeds) * 1.3)

    def draw(self) -> None:
        """Draw everything."""
        self._axes()
        self._roof()
        height = TOP + 12
        right = SIZE[0] - RIGHT
        for n, ((type_, repacked), points) in enumerate(self._lines.items()):
            color = COLORS[n % len(COLORS)]
            places = [self._at(point.intensity, point.gflop_per_s) for point in points]
            self._pen.line(places, fill=color, width=2)
            for x, y in places:
                self._mark(x, y, color, hollow=repacked)
            self._mark(right + 40, height, color, hollow=repacked)
            label = f"{type_}, repacked" if repacked else type_
            self._pen.text((right + 60, height), label, fill=_INK, font=self._font, anchor="lm")
            height += 26
        if self._lines:
            columns = ", ".join(str(point.columns) for point in max(self._lines.values(), key=len))
            for line in ("points of a line, left to right:", f"{columns} columns"):
                self._pen.text((right + 24, height + 6), line, fill=_FAINT, font=self._small, anchor="lm")
                height += 19

    def _axes(self) -> None:
        left, right, bottom = LEFT, SIZE[0] - RIGHT, SIZE[1] - BOTTOM
        for power in range(int(self._x[0]), int(self._x[1]) + 1):
            across = self._at(10.0**power, 1)[0]
            self._pen.line([across, TOP, across, bottom], fill=_GRID)
            self._pen.text((across, bottom + 10), f"{10.0**power:g}", fill=_INK, font=self._font, anchor="ma")
        for power in range(int(self._y[0]), int(self._y[1]) + 1):
            height = self._at(1, 10.0**power)[1]
            self._pen.line([left, height, right, height], fill=_GRID)
            self._pen.text((left - 10, height), f"{10.0**power:g}", fill=_INK, font=self._font, anchor="rm")
        title = f"{self._report.shape} on {self._report.device}, {_threads(self._report.n_threads)}"
        middle = (left + right) / 2
        self._pen.text((left, TOP - 34), title, fill=_INK, font=self._large, anchor="ls")
        label = "operations per byte of weights read"
        self._pen.text((middle, SIZE[1] - 14), label, fill=_INK, font=self._font, anchor="ms")
        self._pen.text((8, TOP - 12), "GFLOP/s", fill=_INK, font=self._font, anchor="ls")

    def _roof(self) -> None:
        """Draw the peaks, and the slope of memory up to the highest of them."""
        read = self._report.ceilings.read_bytes_per_s
        lowest, highest = 10.0 ** self._y[0], max([value for _, value in self._peaks] or [10.0 ** self._y[1]])
        first, last = 10.0 ** self._x[0], 10.0 ** self._x[1]
        for name, value in self._peaks:
            # A peak holds from where memory can feed it.
            start = self._at(max(first, min(last, value / (read / _GIGA))) if read else first, value)
            end = self._at(last, value)
            self._pen.line([start, end], fill=_INK, width=2)
            text = f"{name} {value:.0f} GFLOP/s"
            self._pen.text((end[0] - 6, end[1] - 4), text, fill=_INK, font=self._small, anchor="rs")
        if read:
            slope = read / _GIGA
            start, end = max(first, lowest / slope), min(last, highest / slope)
            if start < end:
                self._pen.line([self._at(start, start * slope), self._at(end, end * slope)], fill=_INK, width=2)
            name = f"memory: {slope:.1f} GB/s"
            x, y = self._at(end, end * slope)
            self._pen.text((x - 14, y - 4), name, fill=_INK, font=self._small, anchor="rs")

    def _mark(self, x: float, y: float, color: str, *, hollow: bool) -> None:
        box = [x - 5, y - 5, x + 5, y + 5]
        if hollow:
            self._pen.rectangle(box, fill="white", outline=color, width=2)
        else:
            self._pen.ellipse(box, fill=color)

    def _at(self, intensity: float, gflop_per_s: float) -> tuple[float, float]:
        across = (math.log10(intensity) - self._x[0]) / (self._x[1] - self._x[0])
        up = (math.log10(gflop_per_s) - self._y[0]) / (self._y[1] - self._y[0])
        return LEFT + across * (SIZE[0] - LEFT - RIGHT), SIZE[1] - BOTTOM - up * (SIZE[1] - TOP - BOTTOM)


def _lines(report: KernelReport) -> dict[tuple[str, bool], list[_Point]]:
    """Return points by type and repacking, each of them all matrices of the model as often as it has them."""
    rows = [row for row in report.rows if row.kernel == "matmul"]
    lines: dict[tuple[str, bool], list[_Point]] = {}
    for key in dict.fromkeys((row.type, row.repacked, row.columns) for row in rows):
        same = [row for row in rows if (row.type, row.repacked, row.columns) == key]
        n_operations = sum(row.count * row.n_operations for row in same)
        n_bytes = sum(row.count * row.n_bytes for row in same)
        seconds = sum(row.count * row.seconds for row in same)
        point = _Point(key[2], n_operations / n_bytes, n_operations / seconds / _GIGA)
        lines.setdefault(key[:2], []).append(point)
    return {key: sorted(points) for key, points in lines.items()}


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"


def _powers(low: float, high: float) -> tuple[float, float]:
    """Return the whole powers of ten around a range."""
    first = math.floor(math.log10(low))
    return first, max(first + 1, math.ceil(math.log10(high)))
