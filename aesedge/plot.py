"""Line charts as PNG, drawn with Pillow; knows numbers and labels, not what they mean."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from aesedge.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SIZE, LEFT, TOP, RIGHT, BOTTOM = (1240, 640), 96, 64, 300, 76
COLORS = ("#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#d68910", "#117a65", "#7f8c8d", "#2c3e50", "#a04000")
_INK, _GRID, _BAND = "#222222", "#dddddd", "#eef5ea"
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart before it is drawn."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[Point]]
    """Name to points, in order of x."""
    log_x: bool = False
    band: Point | None = None
    """Values of y between which everything is well: shown as a band."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        image = Image.new("RGB", SIZE, "white")
        _Drawing(self, ImageDraw.Draw(image)).draw()
        save_png(image, path)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    data = io.BytesIO()
    image.save(data, format="PNG")
    write_whole(path, data.getvalue())


class _Drawing:
    """A chart on its way to pixels."""

    def __init__(self, chart: Chart, pen: ImageDraw.ImageDraw) -> None:
        self._chart, self._pen = chart, pen
        self._font, self._large = ImageFont.load_default(17), ImageFont.load_default(21)
        points = [point for line in chart.lines.values() for point in line]
        self._xs = sorted({x for x, _ in points})
        self._ticks = _ticks([y for _, y in points])

    def draw(self) -> None:
        """Draw everything."""
        pen, chart = self._pen, self._chart
        left, right, bottom = LEFT, SIZE[0] - RIGHT, SIZE[1] - BOTTOM
        if chart.band is not None:
            low, high = (max(self._ticks[0], min(self._ticks[-1], y)) for y in chart.band)
            pen.rectangle([left, self._at(self._xs[0], high)[1], right, self._at(self._xs[0], low)[1]], fill=_BAND)
        for y in self._ticks:
            height = self._at(self._xs[0], y)[1]
            pen.line([left, height, right, height], fill=_GRID)
            pen.text((left - 10, height), f"{y:.4g}", fill=_INK, font=self._font, anchor="rm")
        taken = -math.inf
        for x in self._xs:
            across = self._at(x, self._ticks[0])[0]
            if across - taken >= 40:
                pen.text((across, bottom + 10), f"{x:g}", fill=_INK, font=self._font, anchor="ma")
                taken = across
        pen.text((left, TOP - 34), chart.title, fill=_INK, font=self._large, anchor="ls")
        pen.text(((left + right) / 2, SIZE[1] - 14), chart.x_label, fill=_INK, font=self._font, anchor="ms")
        pen.text((8, TOP - 12), chart.y_label, fill=_INK, font=self._font, anchor="ls")
        for n, (name, line) in enumerate(chart.lines.items()):
            color, places = COLORS[n % len(COLORS)], [self._at(*point) for point in line]
            if len(places) > 1:
                pen.line(places, fill=color, width=3)
            for x, y in places:
                pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=color)
            height = TOP + 12 + 26 * n
            pen.line([right + 24, height, right + 52, height], fill=color, width=3)
            pen.text((right + 60, height), name, fill=_INK, font=self._font, anchor="lm")

    def _at(self, x: float, y: float) -> Point:
        scale = math.log if self._chart.log_x else float
        first, last = scale(self._xs[0]), scale(self._xs[-1])
        across = (scale(x) - first) / (last - first) if last > first else 0.5
        up = (y - self._ticks[0]) / (self._ticks[-1] - self._ticks[0])
        return LEFT + across * (SIZE[0] - LEFT - RIGHT), SIZE[1] - BOTTOM - up * (SIZE[1] - TOP - BOTTOM)


def _ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers, about six, from below the least value to above the largest."""
    low, high = min(values), max(values)
    rough = (high - low or abs(high) or 1) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * n for n in range(first, max(last, first + 1) + 1)]
