"""Score the same rated photographs under several settings, and compare the settings in pairs."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics as python_statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.engine.model import Model
from aesedge.errors import AesedgeError, UsageError
from aesedge.eval import statistics
from aesedge.eval.ratings import score_photos
from aesedge.eval.statistics import Estimate  # noqa: TC001 (a field)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.eval.ratings import ScoredPhoto
    from aesedge.eval.ratings_table import RatedPhoto

ROUNDS = 3
"""Parts of the photographs: in each, every setting has its turn, so that a busy minute does not meet one alone."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a bundle, and how its scores agree with people."""

    options: Options
    name: str
    srcc: Estimate
    change: Estimate | None
    """Of the rank correlation against the reference, on the same photographs; None for the reference itself."""
    drift: float
    """Mean absolute difference of its scores from the reference's, in points of 10."""
    photos_per_minute: float
    """Median over the rounds, loading excluded; NaN where an earlier run scored all photographs."""

    @property
    def loses_nothing_measurable(self) -> bool:
        """Whether the interval of the change does not lie below 0."""
        return self.change is None or self.change.high >= 0


def all_settings(options: Options, **values: Sequence[Any]) -> list[Options]:
    """Return the options with every combination of values; the first of each makes the reference.

    Args:
        options: what they share.
        values: name of a field of the options to its values; none leaves the field as it is.
    """
    chosen = {name: of_name for name, of_name in values.items() if of_name}
    return [
        dataclasses.replace(options, **dict(zip(chosen, combination, strict=True)))
        for combination in itertools.product(*chosen.values())
    ]


def compare_settings(
    bundle: Bundle,
    settings: Sequence[Options],
    photos: Sequence[RatedPhoto],
    folder: Path | None,
    problems: Callable[[str, AesedgeError], None],
    progress: Callable[[float], None],
) -> list[Setting]:
    """Score all photographs under every setting; the first is the reference.

    Args:
        bundle: what is run.
        settings: how; at least two.
        photos: what is scored.
        folder: where the scores of each setting are kept, so that a comparison that was stopped goes on; or None.
        problems: called with the path and the error of each photograph that cannot be scored; no setting counts it.
        progress: called with the part that is done, 0..1.

    Raises:
        UsageError: fewer than two settings, or too few photographs that all settings scored.
    """
    if len(settings) < 2:
        raise UsageError(
            "compare needs two settings at least: give --types, --precisions, --tokens or --kv-types several"
        )
    scored: list[dict[str, ScoredPhoto]] = [{} for _ in settings]
    rates: list[list[float]] = [[] for _ in settings]
    names = [""] * len(settings)
    parts = [photos[i::ROUNDS] for i in range(ROUNDS)]
    n_turns = 0
    for part in parts:
        for i, options in enumerate(settings):
            with Model(bundle, options) as model:
                names[i] = _name_of(model)
                log = folder / f"{names[i].replace(', ', '-').replace(' ', '_')}.jsonl" if folder else None
                before = time.perf_counter()
                found = list(score_photos(model, part, log, problems))
                n_new = sum(photo.is_new for photo in found)
                if n_new:
                    rates[i].append(60 * n_new / (time.perf_counter() - before))
            scored[i] |= {photo.photo: photo for photo in found}
            n_turns += 1
            progress(n_turns / (len(parts) * len(settings)))
    common = [photo.name for photo in photos if all(photo.name in of_setting for of_setting in scored)]
    if len(common) < 3:
        raise UsageError(f"{len(common)} photographs were scored under all settings; at least 3 are needed")
    opinions = np.array([scored[0][name].opinion for name in common])
    scores = [np.array([of_setting[name].score for name in common]) for of_setting in scored]
    return [
        Setting(
            options=options,
            name=names[i],
            srcc=statistics.srcc(scores[i], opinions),
            change=statistics.srcc_difference(scores[0], scores[i], opinions) if i else None,
            drift=float(np.abs(scores[i] - scores[0]).mean()),
            photos_per_minute=python_statistics.median(rates[i] or [float("nan")]),
        )
        for i, options in enumerate(settings)
    ]


def _name_of(model: Model) -> str:
    kv_type = model.internals.plan.kv_type
    return f"{model.gguf.lower()}, {model.vision.lower()}, {model.n_image_tokens} tokens, KV {kv_type}"


def recommended(settings: Sequence[Setting]) -> Setting:
    """Return the fastest setting that loses nothing measurable; of settings without a speed the first."""
    good = [setting for setting in settings if setting.loses_nothing_measurable]
    return max(good, key=lambda s: -1.0 if math.isnan(s.photos_per_minute) else s.photos_per_minute)
