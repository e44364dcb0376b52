"""Duel after duel, the best so far against one change of it, within a given time; knows settings, not how they run.

Scores and critiques each have a best of their own: both begin alike, and where they part, what follows is measured for
each. Every duel starts only if it should end in time; what does not fit is left out, and the record says so.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from aesedge.errors import AesedgeError
from aesedge.profile import Purpose, Settings
from aesedge.tuning.candidates import is_possible, tower_of
from aesedge.tuning.drift import drift
from aesedge.tuning.duel import (
    MARGIN,
    MARGIN_APART,
    NoTimeError,
    Samples,
    Subject,
    interleaved,
    least_steps,
    one_after_the_other,
)
from aesedge.tuning.record import CHOSEN, begun, figures, said
from aesedge.tuning.steps import PHASE_OF, is_deep, language_pass, text_pass, vision_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aesedge.tuning.candidates import Change
    from aesedge.tuning.duel import Program
    from aesedge.tuning.opener import Opener, Part, Rates
    from aesedge.tuning.steps import Phase, Step

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_BOTH = 2.3
"""What both sides of a turn take, in times of the one that is known: the other may be slower."""
_PASS_SHARE = 1 / 24
"""Of the whole time, for one side of one round."""
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.08
"""Of the whole time, for what is timed in a duel whose rounds are short."""
_DEEP_SHARE = 0.5
"""Of the time that is left, for a duel about what depends on how much is in the cache."""


@dataclass
class Standing:
    """The best so far for a purpose."""

    settings: Settings
    drift: float = 0.0
    """How far it may have moved scores from where the search began, in points: the sum over its steps."""


@dataclass(frozen=True)
class _Duel:
    """One change of one best, for the purposes whose best that is."""

    change: Change
    base: Settings
    variant: Settings
    purposes: Sequence[Purpose]
    program: Program
    least: Sequence[Step]
    """The steps that it takes at least."""
    about: dict[str, Any] = field(default_factory=dict)


class Search:
    """The search for the best settings.

    Args:
        opener: opens settings and times them.
        start: where to begin; scores may move only so far from what these settings say.
        deadline: when to be done, on the clock.
        seconds: the whole time, of which pieces get their shares.
        clock: seconds, ever increasing.
        show: called often, with the time.
    """

    def __init__(
        self,
        opener: Opener,
        start: Settings,
        *,
        deadline: float,
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
        show: Callable[[], None] = lambda: None,
    ) -> None:
        self._opener = opener
        self._deadline = deadline
        self._seconds = seconds
        self._pass_s = seconds * _PASS_SHARE
        self._clock = clock
        self._show = show
        self._rates: dict[tuple[Part, Settings], dict[Phase, float]] = {}
        self.best: dict[Purpose, Standing] = {purpose: Standing(start) for purpose in PURPOSES}
        self.trials: list[dict[str, Any]] = []
        """What was tried, ready for JSON."""

    def _left_s(self) -> float:
        self._show()
        return self._deadline - self._clock()

    def look(self) -> None:
        """Time the tower as it is."""
        with suppress(NoTimeError):
            for standing in self.best.values():
                self._base_rates("vision", standing.settings)

    def run(self, changes: Iterable[Change]) -> None:
        """Try changes one after the other."""
        for change in changes:
            groups: dict[Settings, list[Purpose]] = {}
            for purpose, standing in self.best.items():
                if self._amounts(change, purpose):
                    groups.setdefault(standing.settings, []).append(purpose)
            for base, purposes in groups.items():
                variant = msgspec.structs.replace(base, **change.values)
                if variant != base and is_possible(variant):
                    self._try(change, base, variant, purposes)

    def _amounts(self, change: Change, purpose: Purpose) -> dict[Phase, float]:
        amounts = self._opener.work.amounts(purpose)
        return {phase: amounts[phase] for phase in change.phases if amounts[phase]}

    def _try(self, change: Change, base: Settings, variant: Settings, purposes: Sequence[Purpose]) -> None:
        started = self._clock()
        record = begun(change, base, purposes)
        self.trials.append(record)
        try:
            if not self._opener.has_room(variant):
                record["skipped"] = "no room in memory"
                return
            duel = self._planned(change, base, variant, purposes)
            record |= duel.about
            self._judge(duel, self._measured(duel, record), record)
        except NoTimeError as reason:
            record["skipped"] = str(reason)
        except AesedgeError as error:
            record["skipped"] = f"fails on this machine: {error}"
        finally:
            record["took_s"] = self._clock() - started

    def _base_rates(self, part: Part, settings: Settings) -> dict[Phase, float]:
        if (part, settings) not in self._rates:
            if self._left_s() <= 0:
                raise NoTimeError("no time left")
            self._opener.subjects(part, [settings])
            self._rates[part, settings] = dict(self._opener.rates(part, settings))
        return self._rates[part, settings]

    def _planned(self, change: Change, base: Settings, variant: Settings, purposes: Sequence[Purpose]) -> _Duel:
        """Say what is to be timed, if there is time for it.

        Raises:
            NoTimeError: there is not.
        """
        rates, work, part = self._base_rates(change.part, base), self._opener.work, change.part
        about: dict[str, Any] = {}
        program: Program
        if part == "vision":
            program = partial(vision_steps, work)
        elif change.phases == {"decode"}:
            program = partial(text_pass(rates, self._pass_s).steps, work)
        else:
            seconds = max(self._pass_s, self._left_s() * _DEEP_SHARE / _BOTH) if change.grows else self._pass_s
            decodes = "decode" in change.phases and "critique" in purposes
            chosen = language_pass(work, rates, seconds, decodes=decodes, whole_batches=change.whole_batches)
            about = {"n_rows": chosen.n_rows}
            if change.grows and not is_deep(chosen.n_rows, work):
                raise NoTimeError("no time for enough rows in the cache")
            program = partial(chosen.steps, work)
        unit_s = rates["vision" if part == "vision" else "prefill"]
        needed = sum(self._opener.opening_s(part, settings, unit_s) for settings in (base, variant))
        least = least_steps(program, {phase for p in purposes for phase in self._amounts(change, p)})
        needed += _BOTH * sum(_step_s(step, rates) for step in least)
        self._need(needed)
        return _Duel(change, base, variant, purposes, program, least, about)

    def _need(self, seconds: float) -> None:
        left = self._left_s()
        if seconds > left:
            raise NoTimeError(f"no time: about {seconds:.0f} s needed, {max(0.0, left):.0f} s left")

    def _measured(self, duel: _Duel, record: dict[str, Any]) -> Samples:
        part, base, variant = duel.change.part, duel.base, duel.variant
        rates = self._rates[part, base]
        record["side_by_side"] = self._opener.together(part, base, variant)

        def has_time(step: Step) -> bool:
            return self._left_s() > _BOTH * _step_s(step, rates)

        if not record["side_by_side"]:

            def opened(settings: Settings) -> Subject:
                return self._opener.subjects(part, [settings])[0]

            sides = partial(opened, base), partial(opened, variant)
            return one_after_the_other(*sides, duel.least, has_time)
        amounts = [self._amounts(duel.change, purpose) for purpose in duel.purposes]
        first, second = self._opener.subjects(part, [base, variant])
        least_s, most_s = self._seconds * _LEAST_SHARE, self._seconds * _MOST_SHARE
        return interleaved(first, second, duel.program, amounts, has_time, least_s=least_s, most_s=most_s)

    def _judge(self, duel: _Duel, samples: Samples, record: dict[str, Any]) -> None:
        """Decide for each purpose, and write down why."""
        part, base, variant = duel.change.part, duel.base, duel.variant
        margin = MARGIN if record["side_by_side"] else MARGIN_APART
        record["phases"] = {phase: figures(samples, phase) for phase in samples.pairs if phase in duel.change.phases}
        own = {phase: samples.unit_s(phase) for phase in record["phases"]}
        rates = self._rates[part, base] | {phase: seconds for phase, (seconds, _) in own.items()}
        self._rates[part, base] = rates
        self._rates[part, variant] = rates | {phase: seconds for phase, (_, seconds) in own.items()}
        verdicts = {p: samples.verdict(self._amounts(duel.change, p)) for p in duel.purposes}
        is_faster = any(v is not None and v.wins(margin) for v in verdicts.values())
        moved = drift(samples.scores) if part == "language" else self._seen_drift(base, variant) if is_faster else None
        record["drift"] = moved
        record["ratio"] = {p: v and v.ratio for p, v in verdicts.items()}
        record["noise"] = {p: v and v.noise for p, v in verdicts.items()}
        record["verdict"] = {}
        for purpose, verdict in verdicts.items():
            total = None if moved is None else self.best[purpose].drift + moved
            words = said(verdict, total, margin)
            if words == CHOSEN:
                self.best[purpose] = Standing(variant, total or 0.0)
            record["verdict"][purpose] = words

    def _seen_drift(self, base: Settings, variant: Settings) -> float | None:
        """Return how far scores move when another tower looks; None where there is no time to find out."""
        if self._opener.same_rows(base, variant):
            return 0.0
        try:
            rates = self._base_rates("language", base)
            chosen = language_pass(self._opener.work, rates, self._pass_s, decodes=False)
            scores = []
            for i in range(self._opener.work.n_photos):
                steps = chosen.steps(self._opener.work, i)
                self._need(_BOTH * sum(_step_s(step, rates) for step in steps))
                sides = self._opener.subjects("language", [base, variant])
                one, other = ([side.run(step) for step in steps][-1].score for side in sides)
                if one is not None and other is not None:
                    scores.append((one, other))
        except NoTimeError:
            return None
        return drift(scores)

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
        for phase, n in self._opener.work.amounts(purpose).items():
            if n and phase not in rates:
                return None
            found += n * rates.get(phase, 0.0)
        return found


def _step_s(step: Step, rates: Rates) -> float:
    return 0.0 if step.kind == "begin" else step.n * rates[PHASE_OF[step.kind]]
