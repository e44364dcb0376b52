"""Repeat tests in turns until each has enough repetitions or the time is over.

In every round each test runs once, so that whatever else the machine does affects all of them.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bench.power import PowerMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.bench.result import Row

_LEAST_S, _MOST_REPETITIONS = 0.5, 100
"""A short test is repeated for half a second, at most this often."""
_WARM_UP_SHARE = 0.01
"""A test that takes a larger share of the budget is not warmed up: the model ran once before all of them."""
_CHEAP_SHARE = 0.005
"""A test that takes a smaller share of the budget is repeated even when longer ones used the budget up."""
_LEAST_METERED_S = 0.3
"""Anything shorter ends before a power meter has a reading."""


class Sample(NamedTuple):
    """One repetition."""

    ns: int
    parts_s: dict[str, float] = {}  # noqa: RUF012 (never written to)
    n_written: float | None = None
    """Tokens of each text, where it ends by itself."""


class Stopwatch:
    """A clock that starts when it is made."""

    def __init__(self) -> None:
        self._started = time.perf_counter_ns()

    def sample(self, **parts_s: float) -> Sample:
        """Return the elapsed time as a repetition."""
        return Sample(time.perf_counter_ns() - self._started, parts_s)

    @property
    def seconds(self) -> float:
        """Elapsed time."""
        return (time.perf_counter_ns() - self._started) / 1e9


def timed(work: Callable[[], object]) -> Sample:
    """Time a call."""
    watch = Stopwatch()
    work()
    return watch.sample()


@dataclass
class Measurement:
    """A row that is being measured."""

    row: Row
    repeat: Callable[[], Sample]
    """Prepares, does the work once, and returns the time of the work alone."""
    cost_s: float = 0.0
    """Time of the last call of ``repeat``, preparation included."""
    _parts: dict[str, list[float]] = field(default_factory=dict)
    _n_written: list[float] = field(default_factory=list)
    _watts: list[tuple[float, float]] = field(default_factory=list)
    """Mean power and the time it was drawn for."""

    def is_done(self, repetitions: int) -> bool:
        """Whether it was repeated often enough, and long enough."""
        n = len(self.row.samples_ns)
        return n >= repetitions and (sum(self.row.samples_ns) >= _LEAST_S * 1e9 or n >= _MOST_REPETITIONS)

    def warm_up(self, seconds: float) -> None:
        """Run it once; a long run counts as its first repetition."""
        sample = self._run()
        if self.cost_s > seconds * _WARM_UP_SHARE:
            self._add(sample)
        else:
            self.row.n_warm_up = 1

    def run(self) -> None:
        """Run it once."""
        self._add(self._run())

    def _run(self) -> Sample:
        started = time.perf_counter()
        if self.cost_s >= _LEAST_METERED_S or not self.cost_s:
            with PowerMeter() as meter:
                sample = self.repeat()
            took = time.perf_counter() - started
            if meter.power.watts is not None and took >= _LEAST_METERED_S:
                self._watts.append((meter.power.watts, took))
        else:
            sample = self.repeat()
        self.cost_s = time.perf_counter() - started
        return sample

    def _add(self, sample: Sample) -> None:
        row = self.row
        row.samples_ns.append(sample.ns)
        for name, seconds in sample.parts_s.items():
            self._parts.setdefault(name, []).append(seconds)
        row.parts_s = {name: statistics.median(values) for name, values in self._parts.items()}
        if sample.n_written is not None:
            self._n_written.append(sample.n_written)
            row.n_written = statistics.fmean(self._n_written)
        if self._watts:
            row.watts = sum(watts * s for watts, s in self._watts) / sum(s for _, s in self._watts)


def run_rounds(
    tests: Sequence[Measurement], *, repetitions: int, seconds: float, show: Callable[[float], None]
) -> None:
    """Run tests in turns and fill in their rows, until each ran ``repetitions`` times or ``seconds`` are over.

    Every test runs once in any case, and cheap ones go on where an expensive one no longer fits.
    """
    begun = time.monotonic()

    def left() -> float:
        return seconds - (time.monotonic() - begun)

    def is_due(test: Measurement) -> bool:
        is_affordable = test.cost_s < max(left(), seconds * _CHEAP_SHARE)
        return not test.is_done(repetitions) and (not test.row.samples_ns or is_affordable)

    def show_progress() -> None:
        n_done = sum(min(len(test.row.samples_ns), repetitions) for test in tests)
        show(max(1 - left() / seconds, n_done / (repetitions * len(tests))))

    for test in tests:
        test.warm_up(seconds)
        show_progress()
    while due := [test for test in tests if is_due(test)]:
        for test in due:
            if is_due(test):
                test.run()
                show_progress()
