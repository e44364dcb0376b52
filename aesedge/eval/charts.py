"""Draw evaluations: scores beside people's ratings, and how well they are calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.bench.plot import COLORS, clean, new_figure, tidy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.eval.ratings import Agreement, ScoredPhoto


def save_ratings_chart(scored: Sequence[ScoredPhoto], found: Agreement, title: str, path: Path) -> None:
    """Draw every photograph's score beside people's opinion, and means of tenths of the photographs, as PNG.

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
