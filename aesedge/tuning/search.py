"""Search greedily: compare the best settings so far with one change at a time, within a time budget.

Scores and critiques each have a best of their own: both begin alike, and where they part, what follows is measured for
each. A comparison starts only if it should end in time; what does not fit is left out, and the record says so.
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
    NoTimeError,
    drift,
    is_tolerable,
    least_steps,
    one_after_the_other,
    side_by_side,
)
from aesedge.tuning.steps import PHASE_OF, UNITS, is_deep, language_pass, text_pass, vision_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aesedge.config.plan import Settings
    from aesedge.tuning.candidates import Change
    from aesedge.tuning.comparison import Program, Runner, Samples, Verdict
    from aesedge.tuning.runners import Runners
    from aesedge.tuning.steps import Part, Phase, Step

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
CHOSEN = "chosen"
_BOTH = 2.3
"""What both sides of a turn take, in times of the one that is known: the other may be slower."""
_PASS_SHARE = 1 / 24
"""Of the whole time, for one side of one round."""
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.08
"""Of the whole time, for what is timed in a comparison whose rounds are short."""
_DEEP_SHARE = 0.5
"""Of the time that is left, for a comparison about what depends on how much is in the cache."""


@dataclass
class Best:
    """The best settings so far for a purpose."""

    settings: Settings
    drift: float = 0.0
    """How far they may have moved scores from where the search began, in points: the sum over its steps."""


class Search:
    """The search for the best settings.

    Args:
        runners: opens settings and times them.
        start: where to begin; scores may move only so far from what these settings say.
        deadline: when to be done, on the clock.
        seconds: the whole time, of which pieces get their shares.
        clock: seconds, ever increasing.
        show: called often, with the time.
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

    def run(self, changes: Iterable[Change]) -> None:
        """Try changes one after the other."""
        for change in changes:
            groups: dict[Settings, list[Purpose]] = {}
            for purpose, best in self.best.items():
                if self._amounts(change, purpose):
                    groups.setdefault(best.settings, []).append(purpose)
            for base, purposes in groups.items():
                variant = replace(base, **change.values)
                if variant != base and is_possible(variant):
                    self._try(change, base, variant, purposes)

    def _try(self, change: Change, base: Settings, variant: Settings, purposes: Sequence[Purpose]) -> None:
        started = self._clock()
        record: dict[str, Any] = {
            "change": change.name,
            "from": {name: getattr(base, name) for name in change.values},
            "to": dict(change.values),
            "purposes": list(purposes),
            "base": asdict(base),
        }
        self.trials.append(record)
        try:
            if self._runners.has_room(variant):
                samples = self._measured(change, base, variant, purposes, record)
                self._judge(change, base, variant, purposes, samples, record)
            else:
                record["skipped"] = "no room in memory"
        except NoTimeError as reason:
            record["skipped"] = str(reason)
        except AesedgeError as error:
            record["skipped"] = f"fails on this machine: {error}"
        finally:
            record["took_s"] = self._clock() - started

    def _measured(
        self, change: Change, base: Settings, variant: Settings, purposes: Sequence[Purpose], record: dict[str, Any]
    ) -> Samples:
        """Run both sides on the same steps, side by side where memory has room for both.

        Raises:
            NoTimeError: there is not enough time for it.
        """
        rates, part = self._base_rates(change.part, base), change.part
        program = self._program(change, purposes, rates, record)
        amounts = [self._amounts(change, purpose) for purpose in purposes]
        least = least_steps(program, {phase for of_one in amounts for phase in of_one})
        unit_s = rates["vision" if part == "vision" else "prefill"]
        opening_s = sum(self._runners.opening_s(part, settings, unit_s) for settings in (base, variant))
        self._need(opening_s + _BOTH * _steps_s(least, rates))
        record["side_by_side"] = self._runners.together(part, base, variant)

        def has_time(step: Step) -> bool:
            return self._left_s() > _BOTH * _steps_s([step], rates)

        def opened(settings: Settings) -> Runner:
            return self._runners.subjects(part, [settings])[0]

        if not record["side_by_side"]:
            return one_after_the_other(partial(opened, base), partial(opened, variant), least, has_time)
        first, second = self._runners.subjects(part, [base, variant])
        least_s, most_s = self._seconds * _LEAST_SHARE, self._seconds * _MOST_SHARE
        return side_by_side(first, second, program, amounts, has_time, least_s=least_s, most_s=most_s)

    def _program(
        self, change: Change, purposes: Sequence[Purpose], rates: dict[Phase, float], record: dict[str, Any]
    ) -> Program:
        """Return the steps that tell something about a change, as many as there is time for."""
        work, pass_s = self._runners.work, self._seconds * _PASS_SHARE
        if change.part == "vision":
            return partial(vision_steps, work)
        if change.phases == {"decode"}:
            return partial(text_pass(rates, pass_s).steps, work)
        seconds = max(pass_s, self._left_s() * _DEEP_SHARE / _BOTH) if change.grows else pass_s
        decodes = "decode" in change.phases and "critique" in purposes
        chosen = language_pass(work, rates, seconds, decodes=decodes, whole_batches=change.whole_batches)
        if change.grows and not is_deep(chosen.n_rows, work):
            raise NoTimeError("no time for enough rows in the cache")
        record["n_rows"] = chosen.n_rows
        return partial(chosen.steps, work)

    def _judge(
        self,
        change: Change,
        base: Settings,
        variant: Settings,
        purposes: Sequence[Purpose],
        samples: Samples,
        record: dict[str, Any],
    ) -> None:
        """Decide for each purpose, and write down why."""
        part, margin = change.part, MARGIN if record["side_by_side"] else MARGIN_APART
        timed: list[Phase] = [phase for phase in samples.pairs if phase in change.phases]
        record["phases"] = {phase: _figures(samples, phase) for phase in timed}
        rates = self._rates[part, base] | {phase: samples.unit_s(phase)[0] for phase in timed}
        self._rates[part, base] = rates
        self._rates[part, variant] = rates | {phase: samples.unit_s(phase)[1] for phase in timed}
        verdicts = {purpose: samples.verdict(self._amounts(change, purpose)) for purpose in purposes}
        moved = drift(samples.scores)
        if part == "vision":
            is_faster = any(v is not None and v.wins(margin) for v in verdicts.values())
            moved = self._seen_drift(base, variant) if is_faster else None
        record["drift"] = moved
        record["ratio"] = {p: v and v.ratio for p, v in verdicts.items()}
        record["noise"] = {p: v and v.noise for p, v in verdicts.items()}
        record["verdict"] = {}
        for purpose, verdict in verdicts.items():
            total = None if moved is None else self.best[purpose].drift + moved
            record["verdict"][purpose] = text = _verdict_text(verdict, total, margin)
            if text == CHOSEN:
                self.best[purpose] = Best(variant, total or 0.0)

    def _seen_drift(self, base: Settings, variant: Settings) -> float | None:
        """Return how far scores move when another tower looks; None where there is no time to find out."""
        if self._runners.same_rows(base, variant):
            return 0.0
        work, scores = self._runners.work, []
        try:
            rates = self._base_rates("language", base)
            chosen = language_pass(work, rates, self._seconds * _PASS_SHARE, decodes=False)
            for i in range(work.n_photos):
                steps = chosen.steps(work, i)
                self._need(_BOTH * _steps_s(steps, rates))
                sides = self._runners.subjects("language", [base, variant])
                one, other = ([side.run(step) for step in steps][-1].score for side in sides)
                if one is not None and other is not None:
                    scores.append((one, other))
        except NoTimeError:
            return None
        return drift(scores)

    def _amounts(self, change: Change, purpose: Purpose) -> dict[Phase, float]:
        amounts = self._runners.work.amounts(purpose)
        return {phase: amounts[phase] for phase in change.phases if amounts[phase]}

    def _base_rates(self, part: Part, settings: Settings) -> dict[Phase, float]:
        if (part, settings) not in self._rates:
            if self._left_s() <= 0:
                raise NoTimeError("no time left")
            (runner,) = self._runners.subjects(part, [settings])
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
        """Return the fields of which another value was measured for a purpose, whatever came of it."""
        tried = [trial["to"] for trial in self.trials if purpose in trial.get("verdict", {})]
        return {field for values in tried for field in values}

    def expected_s(self, purpose: Purpose) -> float | None:
        """Return about what a photo takes with the best settings; None where not all of it was timed."""
        settings, found = self.best[purpose].settings, 0.0
        own = tower_of(settings)
        tower = next((r for (part, s), r in self._rates.items() if part == "vision" and tower_of(s) == own), {})
        rates = {**tower, **self._rates.get(("language", settings), {})}
        for phase, n in self._runners.work.amounts(purpose).items():
            if n and phase not in rates:
                return None
            found += n * rates.get(phase, 0.0)
        return found


def _steps_s(steps: Iterable[Step], rates: dict[Phase, float]) -> float:
    return sum(step.n * rates[PHASE_OF[step.kind]] for step in steps if step.kind != "begin")


def _figures(samples: Samples, phase: Phase) -> dict[str, Any]:
    """Return what both sides took, in seconds for a unit."""
    (base_s, variant_s), found = samples.unit_s(phase), samples.ratio(phase)
    figures = {"unit": UNITS[phase], "base_s": base_s, "variant_s": variant_s}
    return {**figures, **found._asdict(), "n_pairs": len(samples.pairs[phase])}


def _verdict_text(verdict: Verdict | None, moved: float | None, margin: float) -> str:
    """Return what becomes of a variant, for one purpose.

    Args:
        verdict: how fast it is.
        moved: how far scores have moved with it, in points, since the search began; None is unknown.
        margin: what it must save.
    """
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
