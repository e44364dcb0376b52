"""Search greedily: compare the best settings so far with one candidate at a time, within a time budget.

Scores and critiques each have a best of their own: both begin alike, and where they part, each goes on by itself. A
winner must not move scores. A comparison starts only if it should end in time; the record names what was left out.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from aesedge.config.profile import Purpose
from aesedge.errors import AesedgeError
from aesedge.tuning.candidates import is_possible, tower_of
from aesedge.tuning.comparison import (
    LEAST_PAIRS,
    MARGIN,
    MARGIN_APART,
    UNITS,
    NoTimeError,
    TimedStep,
    drift,
    is_deep,
    is_tolerable,
    language_round,
    one_after_the_other,
    rows_of,
    side_by_side,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aesedge.config.plan import Settings
    from aesedge.tuning.candidates import Candidate
    from aesedge.tuning.comparison import Part, Phase, Runner, Samples, Verdict
    from aesedge.tuning.runners import Runners

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
CHOSEN = "chosen"
_BOTH = 2.3
"""Time of both sides of a turn, as a multiple of the known side's: the other may be slower."""
_ROUND_SHARE = 1 / 24
"""Of the whole time, for one side of one round."""
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.08
"""Of the whole time, for a comparison whose rounds are short."""
_DEEP_SHARE = 0.5
"""Of the time that is left, for a comparison of what depends on the number of cells in the cache."""


@dataclass
class Best:
    """The best settings so far for a purpose."""

    settings: Settings
    drift: float = 0.0
    """How far they may have moved scores from where the search began, in points: the sum over its steps."""


class Search:
    """The search for the best settings, from ``start`` until ``deadline`` on ``clock``.

    ``seconds`` is the whole time, of which comparisons get their shares; ``show`` is called often.
    """

    def __init__(
        self,
        runners: Runners,
        start: Settings,
        *,
        deadline: float,
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
        show: Callable[[], None] = lambda: None,
    ) -> None:
        self._runners, self._deadline, self._seconds = runners, deadline, seconds
        self._clock, self._show = clock, show
        self._rates: dict[tuple[Part, Settings], dict[Phase, float]] = {}
        self.best: dict[Purpose, Best] = {purpose: Best(start) for purpose in PURPOSES}
        self.trials: list[dict[str, Any]] = []
        """What was tried, ready for JSON."""
        with suppress(NoTimeError):
            self._base_rates("vision", start)

    def run(self, candidates: Iterable[Candidate]) -> None:
        """Try candidates one after the other."""
        for candidate in candidates:
            groups: dict[Settings, list[Purpose]] = {}
            for purpose, best in self.best.items():
                if self._amounts(candidate, purpose):
                    groups.setdefault(best.settings, []).append(purpose)
            for base, purposes in groups.items():
                variant = replace(base, **candidate.values)
                if variant != base and is_possible(variant):
                    self._try(candidate, base, variant, purposes)

    def _try(self, candidate: Candidate, base: Settings, variant: Settings, purposes: Sequence[Purpose]) -> None:
        started = self._clock()
        record: dict[str, Any] = {
            "change": candidate.name,
            "from": {name: getattr(base, name) for name in candidate.values},
            "to": dict(candidate.values),
            "purposes": list(purposes),
            "base": asdict(base),
        }
        self.trials.append(record)
        try:
            if self._runners.has_room(variant):
                samples = self._measured(candidate, base, variant, purposes, record)
                self._judge(candidate, base, variant, samples, record)
            else:
                record["skipped"] = "no room in memory"
        except NoTimeError as reason:
            record["skipped"] = str(reason)
        except AesedgeError as error:
            record["skipped"] = f"fails on this machine: {error}"
        finally:
            record["took_s"] = self._clock() - started

    def _measured(
        self,
        candidate: Candidate,
        base: Settings,
        variant: Settings,
        purposes: Sequence[Purpose],
        record: dict[str, Any],
    ) -> Samples:
        """Run both sides on the same steps, side by side where memory has room for both.

        Raises:
            NoTimeError: there is not enough time for it.
        """
        rates, part = self._base_rates(candidate.part, base), candidate.part
        steps = self._round(candidate, purposes, rates)
        if rows_of(steps):
            record["n_rows"] = rows_of(steps)
        each = {step.phase: _seconds([step], rates) for step in steps}
        self._need(_BOTH * max(LEAST_PAIRS * sum(each.values()), _seconds(steps, rates) if candidate.grows else 0.0))
        record["side_by_side"] = self._runners.together(part, base, variant)

        def has_time(step: TimedStep) -> bool:
            return self._left_s() > _BOTH * _seconds([step], rates)

        def opened(settings: Settings) -> Runner:
            return self._runners.open(part, [settings])[0]

        if not record["side_by_side"]:
            return one_after_the_other([partial(opened, base), partial(opened, variant)], steps, has_time)
        least_s, most_s = self._seconds * _LEAST_SHARE, self._seconds * _MOST_SHARE
        amounts = [self._amounts(candidate, purpose) for purpose in purposes]
        return side_by_side(
            self._runners.open(part, [base, variant]),
            steps,
            amounts,
            has_time,
            n_photos=self._runners.work.n_photos,
            least_s=least_s,
            most_s=most_s,
        )

    def _round(self, candidate: Candidate, purposes: Sequence[Purpose], rates: dict[Phase, float]) -> list[TimedStep]:
        """Return the steps that tell something about a candidate, as many as there is time for."""
        if candidate.part == "vision":
            return [TimedStep("vision")]
        seconds = self._seconds * _ROUND_SHARE
        if candidate.grows:
            seconds = max(seconds, self._left_s() * _DEEP_SHARE / _BOTH)
        n_image = self._runners.work.n_image
        steps = language_round(
            n_image,
            rates,
            seconds,
            decodes="decode" in candidate.phases and "critique" in purposes,
            prefills="prefill" in candidate.phases,
            whole_batches=candidate.whole_batches,
        )
        if candidate.grows and not is_deep(steps, n_image):
            raise NoTimeError("no time for enough rows in the cache")
        return steps

    def _judge(
        self, candidate: Candidate, base: Settings, variant: Settings, samples: Samples, record: dict[str, Any]
    ) -> None:
        """Decide for each purpose, and write down why."""
        part, margin = candidate.part, MARGIN if record["side_by_side"] else MARGIN_APART
        timed: list[Phase] = [phase for phase in samples.pairs if phase in candidate.phases]
        record["phases"] = {phase: _figures(samples, phase) for phase in timed}
        rates = self._rates[part, base] | {phase: samples.unit_s(phase)[0] for phase in timed}
        self._rates[part, base] = rates
        self._rates[part, variant] = rates | {phase: samples.unit_s(phase)[1] for phase in timed}
        verdicts = {purpose: samples.verdict(self._amounts(candidate, purpose)) for purpose in record["purposes"]}
        wins = any(v is not None and v.wins(margin) for v in verdicts.values())
        record["drift"] = moved = self._score_drift(base, variant) if wins else None
        record["ratio"] = {p: v and v.ratio for p, v in verdicts.items()}
        record["noise"] = {p: v and v.noise for p, v in verdicts.items()}
        record["verdict"] = {}
        for purpose, verdict in verdicts.items():
            total = None if moved is None else self.best[purpose].drift + moved
            record["verdict"][purpose] = text = _verdict_text(verdict, total, margin)
            if text == CHOSEN:
                self.best[purpose] = Best(variant, total or 0.0)

    def _score_drift(self, base: Settings, variant: Settings) -> float | None:
        """Return how far scores move with a variant; None where there is no time to find out."""
        if tower_of(base) != tower_of(variant) and self._runners.same_rows(base, variant):
            return 0.0
        scores: list[list[float]] = []
        try:
            rates = self._base_rates("language", base)
            work = self._runners.work
            steps = language_round(work.n_image, rates, self._seconds * _ROUND_SHARE, decodes=False)
            seconds = _seconds([*steps, TimedStep("prefill", work.n_question)], rates)
            apart = [[base, variant]] if self._runners.together("language", base, variant) else [[base], [variant]]
            for photo in range(work.n_photos):
                self._need(_BOTH * seconds)
                scores.append([])
                for side in (side for settings in apart for side in self._runners.open("language", settings)):
                    side.begin(photo)
                    for step in steps:
                        side.run(step)
                    scores[-1].append(side.score())
        except NoTimeError:
            scores = [both for both in scores if len(both) == 2]
        return drift([(one, other) for one, other in scores])

    def _amounts(self, candidate: Candidate, purpose: Purpose) -> dict[Phase, float]:
        amounts = self._runners.work.amounts(purpose)
        return {phase: amounts[phase] for phase in candidate.phases if amounts[phase]}

    def _base_rates(self, part: Part, settings: Settings) -> dict[Phase, float]:
        if (part, settings) not in self._rates:
            if self._left_s() <= 0:
                raise NoTimeError("no time left")
            (runner,) = self._runners.open(part, [settings])
            self._rates[part, settings] = dict(runner.rates)
        return self._rates[part, settings]

    def _left_s(self) -> float:
        self._show()
        return self._deadline - self._clock()

    def _need(self, seconds: float) -> None:
        left = self._left_s()
        if seconds > left:
            raise NoTimeError(f"no time: about {seconds:.0f} s needed, {max(0.0, left):.0f} s left")

    def measured(self, purpose: Purpose) -> set[str]:
        """Return the fields of which another value was measured for a purpose."""
        tried = [trial["to"] for trial in self.trials if purpose in trial.get("verdict", {})]
        return {field for values in tried for field in values}

    def expected_s(self, purpose: Purpose) -> float | None:
        """Return about what a photo takes with the best settings; None where not all of it was timed."""
        settings = self.best[purpose].settings
        own = tower_of(settings)
        tower = next((r for (part, s), r in self._rates.items() if part == "vision" and tower_of(s) == own), {})
        rates = {**tower, **self._rates.get(("language", settings), {})}
        amounts = {phase: n for phase, n in self._runners.work.amounts(purpose).items() if n}
        return sum(n * rates[phase] for phase, n in amounts.items()) if amounts.keys() <= rates.keys() else None


def _seconds(steps: Iterable[TimedStep], rates: dict[Phase, float]) -> float:
    return sum(step.n * rates[step.phase] for step in steps)


def _figures(samples: Samples, phase: Phase) -> dict[str, Any]:
    """Return both sides' times, in seconds for a unit."""
    (base_s, variant_s), found = samples.unit_s(phase), samples.ratio(phase)
    figures = {"unit": UNITS[phase], "base_s": base_s, "variant_s": variant_s}
    return {**figures, **found._asdict(), "n_pairs": len(samples.pairs[phase])}


def _verdict_text(verdict: Verdict | None, moved: float | None, margin: float) -> str:
    """Return the verdict on a variant; ``moved`` are points since the search began, None where they are unknown."""
    if moved is not None and not is_tolerable(moved):
        return f"refused: scores move by {moved:.2f}"
    # A single turn says little, but so much slower is no chance.
    if verdict is not None and verdict.ratio > 1 + margin:
        return "slower"
    if verdict is None or verdict.n_pairs < LEAST_PAIRS:
        return "not decided in time"
    if not verdict.wins(margin):
        return "no faster"
    return CHOSEN if moved is not None else "no time to see whether scores move"
