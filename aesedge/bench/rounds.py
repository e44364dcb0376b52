"""Tests take turns until each was repeated often enough, or time is over; knows clocks, not what is timed.

In every round each test runs once: what else the machine does in a minute falls on all of them, not on one.
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
"""A short test is repeated for half a second, but so often at most."""
_WARM_UP_SHARE = 0.01
"""A test that takes a larger part of the budget is not warmed up: the model was read and run once before all."""
_CHEAP_SHARE = 0.005
"""A test that takes a smaller part of the budget is repeated even when it is used up by longer ones."""
_LEAST_METERED_S = 0.3
"""What is shorter is over before a power meter has an answer."""


class Sample(NamedTuple):
    """One repetition."""

    ns: int
    parts_s: dict[str, float] = {}  # noqa: RUF012 (never written to)
    n_written: float | None = None
    """Tokens of each text, where it ends by itself."""


@dataclass
class Measurement:
    """A row that is being measured."""

    row: Row
    repeat: Callable[[], Sample]
    """Prepares, does the work once, and returns what the work alone took."""
    parts: dict[str, list[float]] = field(default_factory=dict)
    n_written: list[float] = field(default_factory=list)
    joules: float = 0.0
    metered_s: float = 0.0
    cost_s: float = 0.0
    """What the last call of ``repeat`` took, with everything around the work."""

    @property
    def n_done(self) -> int:
        """Repetitions that count."""
        return len(self.row.samples_ns)

    def is_done(self, repetitions: int) -> bool:
        """Whether it was repeated often enough, and long enough."""
        is_long = sum(self.row.samples_ns) >= _LEAST_S * 1e9 or self.n_done >= _MOST_REPETITIONS
        return self.n_done >= repetitions and is_long

    def warm_up(self, seconds: float) -> None:
        """Run it once; what took long counts as its first repetition."""
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
                self.joules += meter.power.watts * took
                self.metered_s += took
        else:
            sample = self.repeat()
        self.cost_s = time.perf_counter() - started
        return sample

    def _add(self, sample: Sample) -> None:
        self.row.samples_ns.append(sample.ns)
        for name, seconds in sample.parts_s.items():
            self.parts.setdefault(name, []).append(seconds)
        self.row.parts_s = {name: statistics.median(values) for name, values in self.parts.items()}
        if sample.n_written is not None:
            self.n_written.append(sample.n_written)
            self.row.n_written = statistics.fmean(self.n_written)
        if self.metered_s:
            self.row.watts = self.joules / self.metered_s


def run_rounds(
    tests: Sequence[Measurement], *, repetitions: int, seconds: float, show: Callable[[float], None]
) -> None:
    """Run tests in turns.

    Args:
        tests: what is measured; their rows are filled in as it goes on.
        repetitions: how often each at least, where time allows; once in any case.
        seconds: for all of them. A test is not begun again when the last time took longer than what is left, but for
            cheap ones.
        show: called with the share done, 0..1.
    """
    begun = time.monotonic()

    def is_due(test: Measurement) -> bool:
        is_affordable = test.cost_s < max(left(), seconds * _CHEAP_SHARE)
        return not test.is_done(repetitions) and (not test.n_done or is_affordable)

    def left() -> float:
        return seconds - (time.monotonic() - begun)

    def show_progress() -> None:
        n_wanted = repetitions * len(tests)
        show(max(1 - left() / seconds, sum(min(t.n_done, repetitions) for t in tests) / n_wanted))

    for test in tests:
        test.warm_up(seconds)
        show_progress()
    while True:
        due = [test for test in tests if is_due(test)]
        if not due:
            return
        for test in due:
            if is_due(test):
                test.run()
                show_progress()
