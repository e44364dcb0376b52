"""Draw evaluations: scores beside people's ratings with their calibration, and AesBench's dimensions."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from aesedge.bench.plot import COLORS, clean, new_figure, tidy
from aesedge.errors import UsageError
from aesedge.eval.published import DIMENSIONS, dimension_of, published

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.eval.benchmark import Scores
    from aesedge.eval.ratings import Agreement, ScoredPhoto


def save_ratings_chart(scored: Sequence[ScoredPhoto], found: Agreement, title: str, path: Path) -> None:
    """Draw every photograph's score beside people's opinion, and means of tenths of the photographs, as PNG or SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    with new_figure(path, width=1240, height=640) as figure:
        figure.suptitle(clean(title, 120), x=0.01, ha="left")
        points, curve = figure.subplots(1, 2)
        points.scatter([p.score for p in scored], [p.opinion for p in scored], s=12, alpha=0.5, color=COLORS[0])
        points.set_title(f"{found.n} photographs: SRCC {found.srcc}", loc="left", fontsize="medium")
        curve.plot([0, 10], [0, 10], color=COLORS[6], linewidth=1, linestyle="--", label="score = opinion")
        curve.plot(
            [part.score for part in found.calibration],
            [part.opinion for part in found.calibration],
            marker="o",
            color=COLORS[1],
            label="tenths of the photographs, by score",
        )
        curve.legend(frameon=False)
        curve.set_title(
            f"calibration: mean absolute error {found.mean_absolute_error:.2f} points", loc="left", fontsize="medium"
        )
        for axes in (points, curve):
            axes.set(xlim=(0, 10), ylim=(0, 10), aspect="equal", xlabel="score", ylabel="people's opinion, 0 to 10")
            tidy(axes)


SHOWN_MODELS = ("AesExpert (LLaVA-1.5-7B)", "GPT-4V", "LLaVA-1.5-7B")
_LEAST_DIMENSIONS = 3
_UPRIGHT = 0.1  # cosine of angles above and below
_FOOTER = 150  # characters in a line of small print


def save_radar_chart(found: Scores, title: str, path: Path) -> None:
    """Draw the accuracy by dimension, most probable letters, beside published models, as PNG or SVG.

    Raises:
        UsageError: the file with the questions names too few dimensions.
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    ours: dict[str, float] = {}
    for (_, group), one in found.groups.items():
        dimension = dimension_of(group) if group else None
        if dimension is not None:
            ours[dimension] = 100 * one.n_by_probability / one.n
    names = [dimension for dimension in DIMENSIONS if dimension in ours]
    if len(names) < _LEAST_DIMENSIONS:
        raise UsageError(
            f"{path}: the questions name {len(names)} of AesBench's dimensions with right answers that are known; "
            f"a radar chart needs {_LEAST_DIMENSIONS}"
        )
    angles = [2 * math.pi * i / len(names) for i in range(len(names) + 1)]
    table = published()
    with new_figure(path, width=1160, height=760) as figure:
        figure.suptitle(clean(title, 100), x=0.01, ha="left")
        axes = figure.add_subplot(projection="polar")
        for model, color in zip(SHOWN_MODELS, COLORS[1:], strict=False):
            values = [table.models[model][name] for name in names]
            axes.plot(angles, [*values, values[0]], color=color, linewidth=1, label=f"{model}, published")
        values = [ours[name] for name in names]
        axes.plot(angles, [*values, values[0]], color=COLORS[0], linewidth=2.5, label="this bundle")
        axes.fill(angles, [*values, values[0]], color=COLORS[0], alpha=0.15)
        axes.set_xticks(angles[:-1], names)
        for label, angle in zip(axes.get_xticklabels(), angles, strict=False):  # beside the circle, not on it
            side = math.cos(angle)
            label.set_horizontalalignment("center" if abs(side) < _UPRIGHT else "left" if side > 0 else "right")
        axes.set_ylim(0, 100)
        axes.legend(loc="upper left", bbox_to_anchor=(1.12, 1.04), frameon=False)
        source = textwrap.fill(clean(f"accuracy, %. Published: {table.source}", 400), _FOOTER)
        figure.supxlabel(source, x=0.01, ha="left", fontsize="x-small")
