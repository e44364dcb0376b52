"""Run a bundle on the same photographs or questions under several settings, and compare the settings in pairs."""

from __future__ import annotations

import dataclasses
import itertools
import statistics as python_statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from aesedge.bundle.fidelity import ComparedSetting, Comparison
from aesedge.config.planning import make_plan
from aesedge.engine.model import Model
from aesedge.errors import AesedgeError, UsageError
from aesedge.eval import statistics
from aesedge.eval.aesbench import in_parts
from aesedge.eval.benchmark import ask_all
from aesedge.eval.ratings import score_photos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.config.plan import Plan
    from aesedge.eval.aesbench import Benchmark
    from aesedge.eval.benchmark import Reply
    from aesedge.eval.ratings_table import RatedPhoto
    from aesedge.eval.statistics import Estimate

    Problems = Callable[[str, AesedgeError], None]

ROUNDS = 3
"""Parts of the photographs: in each, every setting has its turn, so that a busy minute does not meet one alone."""
P_VALUE = 0.05
"""Below it two settings do not answer equally many questions rightly."""
_LEAST = 3


class Result(Protocol):
    """What a setting finds for one photograph or question."""

    @property
    def key(self) -> str:
        """Name of the photograph or question."""

    @property
    def is_new(self) -> bool:
        """Whether it was computed now, and not by an earlier run."""


P = TypeVar("P")
R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Run(Generic[R]):
    """All results of one setting."""

    plan: Plan
    results: dict[str, R]
    per_minute: float | None
    """Median over the rounds, loading excluded; None where an earlier run computed everything."""


def loses_nothing_measurable(setting: ComparedSetting) -> bool:
    """Return whether the interval of the change reaches 0; for questions, whether no McNemar test finds a loss."""
    if setting.change is None:
        return True
    if setting.p_value is None:
        return setting.change_high is not None and setting.change_high >= 0
    return not any(
        change is not None and p_value is not None and change < 0 and p_value < P_VALUE
        for change, p_value in ((setting.change, setting.p_value), (setting.text_change, setting.text_p_value))
    )


def setting_name(plan: Plan) -> str:
    """Return what of a plan changes results, in one text."""
    return f"{plan.gguf.lower()}, {plan.vision.lower()}, {plan.n_image_tokens} tokens, KV {plan.kv_type}"


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


def compare_ratings(
    bundle: Bundle,
    settings: Sequence[Options],
    photos: Sequence[RatedPhoto],
    folder: Path | None,
    problems: Problems,
    progress: Callable[[float], None],
) -> Comparison:
    """Score all photographs under every setting; the first is the reference.

    Args:
        bundle: what is run.
        settings: how; at least two.
        photos: what is scored.
        folder: where the scores of each setting are kept, so that a comparison that was stopped goes on; or None.
        problems: called with the path and the error of each photograph that cannot be scored; no setting counts it.
        progress: called with the part that is done, 0..1.

    Raises:
        UsageError: fewer than two settings, the same one twice, too few photographs that all settings scored, or all
            with one rating.
    """
    runs = _run_all(
        bundle, settings, [photos[i::ROUNDS] for i in range(ROUNDS)],
        lambda model, part, log: score_photos(model, part, log, problems), folder, progress,
    )  # fmt: skip
    common = _common(runs, [photo.name for photo in photos], "photographs were scored")
    opinions = np.array([runs[0].results[name].opinion for name in common])
    if np.ptp(opinions) == 0:
        raise UsageError(f"people gave all {len(common)} photographs the same rating; nothing can be compared")
    scores = [np.array([run.results[name].score for name in common]) for run in runs]
    found = []
    for i, run in enumerate(runs):
        change = statistics.srcc_difference(scores[0], scores[i], opinions) if i else None
        drift = float(np.abs(scores[i] - scores[0]).mean())
        found.append(_setting(run, statistics.srcc(scores[i], opinions), change, drift=drift))
    return _comparison("srcc", len(common), found)


def compare_answers(
    bundle: Bundle,
    settings: Sequence[Options],
    benchmark: Benchmark,
    folder: Path | None,
    problems: Problems,
    progress: Callable[[float], None],
) -> Comparison:
    """Ask all questions whose right answer is known under every setting; see :func:`compare_ratings`.

    Raises:
        UsageError: as there; or no right answers are known.
    """
    known = [item for item in benchmark.items if item.answer is not None and item.options]
    if not known:
        raise UsageError("no right answers are known: settings can be compared on questions with answers alone")
    asked = dataclasses.replace(benchmark, items=known)
    runs = _run_all(
        bundle, settings, in_parts(asked, ROUNDS),
        lambda model, part, log: ask_all(model, part, log, problems), folder, progress,
    )  # fmt: skip
    common = _common(runs, [item.key for item in known], "questions were answered")
    replies = [[run.results[key] for key in common] for run in runs]
    found = [_answered(run, replies[0], replies[i], is_reference=not i) for i, run in enumerate(runs)]
    return _comparison("accuracy", len(common), found)


def _answered(
    run: Run[Reply], reference: Sequence[Reply], replies: Sequence[Reply], *, is_reference: bool
) -> ComparedSetting:
    before, now = ([reply.is_right_by_probability for reply in of_run] for of_run in (reference, replies))
    texts_before, texts = ([reply.is_right_by_text for reply in of_run] for of_run in (reference, replies))
    changed = [a.by_probability != b.by_probability for a, b in zip(reference, replies, strict=True)]
    return _setting(
        run,
        statistics.mean(now),
        None if is_reference else statistics.mean(np.subtract(now, before, dtype=np.float64)),
        drift=float(np.mean(changed)),
        p_value=None if is_reference else statistics.mcnemar(before, now),
        text_agreement=float(np.mean(texts)),
        text_change=None if is_reference else float(np.mean(texts) - np.mean(texts_before)),
        text_p_value=None if is_reference else statistics.mcnemar(texts_before, texts),
    )


def _setting(run: Run[Any], agreement: Estimate, change: Estimate | None, **figures: float | None) -> ComparedSetting:
    return ComparedSetting(
        gguf=run.plan.gguf.lower(),
        vision=run.plan.vision.lower(),
        image_tokens=run.plan.n_image_tokens,
        kv_type=run.plan.kv_type,
        agreement=agreement.value,
        low=agreement.low,
        high=agreement.high,
        change=change.value if change else None,
        change_low=change.low if change else None,
        change_high=change.high if change else None,
        per_minute=run.per_minute,
        **figures,
    )


def _comparison(measure: str, n: int, settings: list[ComparedSetting]) -> Comparison:
    """Return a comparison that recommends the fastest setting that loses nothing measurable."""
    good = [i for i, setting in enumerate(settings) if loses_nothing_measurable(setting)]
    best = max(good, key=lambda i: settings[i].per_minute or 0.0)  # without any speed the first
    return Comparison(measure=measure, n=n, settings=settings, recommended=best)


def _common(runs: Sequence[Run[R]], keys: Sequence[str], done: str) -> list[str]:
    """Return the keys that every setting has a result for."""
    common = [key for key in keys if all(key in run.results for run in runs)]
    if len(common) < _LEAST:
        raise UsageError(f"{len(common)} {done} under all settings; at least {_LEAST} are needed")
    return common


def _run_all(
    bundle: Bundle,
    settings: Sequence[Options],
    parts: Sequence[P],
    work: Callable[[Model, P, Path | None], Iterable[R]],
    folder: Path | None,
    progress: Callable[[float], None],
) -> list[Run[R]]:
    """Run every setting on every part, in turns."""
    plans = _plans(bundle, settings)
    results: list[dict[str, R]] = [{} for _ in plans]
    rates: list[list[float]] = [[] for _ in plans]
    n_turns = 0
    for part in parts:
        for i, (options, plan) in enumerate(zip(settings, plans, strict=True)):
            name = setting_name(plan).replace(", ", "-").replace(" ", "_")
            with Model(bundle, options) as model:
                before = time.perf_counter()
                found = list(work(model, part, folder / f"{name}.jsonl" if folder else None))
                took_s = time.perf_counter() - before
            n_new = sum(result.is_new for result in found)
            rates[i] += [60 * n_new / took_s] if n_new else []
            results[i] |= {result.key: result for result in found}
            n_turns += 1
            progress(n_turns / (len(parts) * len(plans)))
    return [
        Run(plan, of_plan, python_statistics.median(rate) if rate else None)
        for plan, of_plan, rate in zip(plans, results, rates, strict=True)
    ]


def _plans(bundle: Bundle, settings: Sequence[Options]) -> list[Plan]:
    """Return how each setting is run; what the bundle does not have is told before anything is computed."""
    plans = [make_plan(options, bundle) for options in settings]
    for plan in plans:
        bundle.hashed_paths(("vision", plan.vision), ("llm", plan.gguf))
    names = [setting_name(plan) for plan in plans]
    if len(names) < 2:
        raise UsageError(
            "compare needs two settings at least: give --types, --precisions, --tokens or --kv-types several"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the setting {twice} is there twice; name each value once")
    return plans
