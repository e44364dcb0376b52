"""Draw PNG and SVG charts with matplotlib, which the extra ``plot`` brings."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.errors import MissingExtraError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.paths import cache_folder
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes as Axes  # noqa: PLC0414 (used by the modules that draw)
    from matplotlib.figure import Figure

COLORS = ("#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#d68910", "#117a65", "#7f8c8d", "#2c3e50", "#a04000")
_DPI = 100
_FOLDER_VARIABLE = "MPLCONFIGDIR"
Point = tuple[float, float]


def require_matplotlib() -> None:
    """Import matplotlib; its list of fonts goes into aesedge's cache folder, not the user's home.

    Raises:
        MissingExtraError: it is not installed.
    """
    if "matplotlib.font_manager" in sys.modules:  # the program that uses us has loaded it in its own way
        return
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # "building the font cache" is no news for users
    before = os.environ.get(_FOLDER_VARIABLE)
    os.environ[_FOLDER_VARIABLE] = str(cache_folder() / "matplotlib")
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"drawing a chart ({error.name or error} is not installed)", "plot") from None
    finally:
        del os.environ[_FOLDER_VARIABLE]
        if before is not None:
            os.environ[_FOLDER_VARIABLE] = before


@contextmanager
def new_figure(path: Path, *, width: int = 1240, height: int = 640) -> Iterator[Figure]:
    """Yield an empty figure, its size in pixels; at the end it is written, whole or not at all.

    The suffix ``.svg`` makes an SVG, any other a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    require_matplotlib()
    from matplotlib import style
    from matplotlib.figure import Figure

    data = io.BytesIO()
    with style.context(["default", {"svg.hashsalt": "aesedge"}]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sign that the font lacks, and names too long for the layout
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
        yield figure
        if path.suffix.lower() == ".svg":  # without a date and with ids of its content: the same each time
            figure.savefig(data, format="svg", metadata={"Date": None})
        else:
            figure.savefig(data, format="png")
    write_atomic(path, data.getvalue())


def clean(text: str, longest: int) -> str:
    """Return text for a picture: without control characters, shortened, and with dollar signs that begin no formula."""
    line = sanitize(text)
    return (line if len(line) <= longest else f"{line[: longest - 1]}…").replace("$", r"\$")


def tidy(axes: Axes) -> None:
    """Leave out the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line chart before it is drawn."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[Point]]
    """Name to points, in order of x."""
    log_x: bool = False
    band: Point | None = None
    """Acceptable values of y, shown as a band."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            MissingExtraError: matplotlib is not installed.
            OSError: the folder cannot be written.
        """
        with new_figure(path) as figure:
            axes = figure.subplots()
            for n, (name, points) in enumerate(self.lines.items()):
                axes.plot(*zip(*points, strict=True), "o-", color=COLORS[n % len(COLORS)], label=name)
            if self.band is not None:
                limits = axes.get_ylim()
                axes.axhspan(*self.band, color="#eef5ea", zorder=0)
                axes.set_ylim(limits)
            if self.log_x:
                axes.set_xscale("log")
            numbers = sorted({x for points in self.lines.values() for x, _ in points})
            axes.set_xticks(numbers, [f"{x:g}" for x in numbers])
            axes.minorticks_off()
            axes.set_title(clean(self.title, 110), loc="left")
            axes.set_xlabel(self.x_label)
            axes.set_ylabel(self.y_label)
            axes.grid(axis="y", color="#dddddd")
            tidy(axes)
            figure.legend(loc="outside right upper")
