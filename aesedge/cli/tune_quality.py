"""``tune --quality``: what fewer image tokens cost on the user's own photos."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from aesedge.bundle.bundle import replace_manifest
from aesedge.bundle.manifest import AUTO_NLL_CHANGE, AUTO_SCORE_DRIFT
from aesedge.cli.photos import readable_photos
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, status, table
from aesedge.config.options import Options
from aesedge.errors import UsageError
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import ImageTokens
    from aesedge.cli.options import Printing


def measure_quality(
    bundle: Bundle, photos: Sequence[str], plot: Path | None, printing: Printing, options: Options = Options()
) -> None:
    """Measure every number of image tokens on photos, write the figures into the bundle's manifest, and show them.

    Raises:
        UsageError: the bundle has one number of image tokens only, or the plot cannot be written.
        AesedgeError: a photo cannot be read, or the bundle's folder cannot be written; the manifest is as before.
    """
    from aesedge.engine.model import Model
    from aesedge.tuning.token_curve import budgets, measure

    tokens = bundle.manifest.image_tokens
    if tokens.min == tokens.max:
        raise UsageError(
            f"bundle {bundle.name!r} has {tokens.max} image tokens and cannot reduce them; export it again"
        )
    if plot is not None:
        from aesedge.bench.plot import require_matplotlib

        require_matplotlib()
    paths = readable_photos(photos, printing)
    numbers = budgets(tokens.min, tokens.max)
    with (
        Model(bundle, dataclasses.replace(options, purpose="score")) as model,
        status(f"measuring {bundle.name}", quiet=printing.quiet) as show,
    ):
        curve = measure(model, paths, numbers, show)
    measured = msgspec.structs.replace(tokens, curve=curve)
    if plot is not None:
        _plot(bundle, measured, plot)
    replace_manifest(bundle, msgspec.structs.replace(bundle.manifest, image_tokens=measured))
    if printing.json:
        print_json({"bundle": bundle.name, "auto": measured.auto(), "curve": curve})
        return
    print(curve_text(measured))
    if not printing.quiet:
        print(dim(sanitize(f"written into {bundle.folder / 'manifest.json'}")))


def curve_text(tokens: ImageTokens) -> str:
    """Return the table of a measured curve, or how to measure one."""
    auto = tokens.auto()
    rows = [[str(tokens.max), "100 %", "", "", "", "auto" if auto == tokens.max else ""]]
    rows += [
        [
            str(point.n),
            f"{100 * point.n / tokens.max:.0f} %",
            f"{point.score_drift:.2f}",
            f"{point.worst_score_drift:.2f}",
            f"{point.nll_change:+.3f}",
            "auto" if point.n == auto else "",
        ]
        for point in tokens.curve
    ]
    shown = table(rows, header=["image tokens", "share", "points", "worst photo", "nats/token", ""])
    n_photos = tokens.curve[0].n_photos if tokens.curve else 0
    legend = (
        f"on {n_photos} photos, against all image tokens, reduced by {tokens.method}\n"
        "points:      mean change of the scores, of 10\n"
        "nats/token:  change in negative log-likelihood of the critique that all of them lead to\n"
        f"auto:        the fewest that keep points within {AUTO_SCORE_DRIFT:g} and nats within {AUTO_NLL_CHANGE:g}"
    )
    return f"{bold('image tokens')}\n{shown}\n{dim(legend)}"


def _plot(bundle: Bundle, tokens: ImageTokens, path: Path) -> None:
    from aesedge.bench.plot import Chart

    curve = [*reversed(tokens.curve)]
    chart = Chart(
        title=f"What fewer image tokens cost: {bundle.name}, {tokens.method}, {curve[0].n_photos} photos",
        x_label="image tokens",
        y_label="change of the scores, points of 10",
        lines={
            "mean of all photos": [*((float(p.n), p.score_drift) for p in curve), (float(tokens.max), 0.0)],
            "worst photo": [*((float(p.n), p.worst_score_drift) for p in curve), (float(tokens.max), 0.0)],
        },
        log_x=True,
        band=(0.0, AUTO_SCORE_DRIFT),
    )
    try:
        chart.save(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
