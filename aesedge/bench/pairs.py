"""Two programs that do the same work in turns, within a budget of seconds; knows times, not the programs or the work.

Other programs and the machine's temperature make everything slower now and then, for longer than a step. So both sides
do each step right after one another, now the one first and now the other, and what counts is the ratio of each pair.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aesedge.bench.result import Against

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Took = Mapping[str, int]
    """Test to nanoseconds."""


@dataclass(frozen=True)
class Pair:
    """A step that both sides do, one or more tests being timed on the way."""

    what: Mapping[str, str]
    """Test to what both sides do in it."""
    ours: Callable[[], Took]
    """Does the step; returns what each test took."""
    theirs: Callable[[], Took]
    prepare: Callable[[], None] = lambda: None
    """Called before both, and not timed."""

    @property
    def name(self) -> str:
        """Its first test, which no other pair has."""
        return next(iter(self.what))


@dataclass
class Record:
    """What was measured so far, pair by pair; whoever is interrupted still has it."""

    rows: dict[str, Against] = field(default_factory=dict)
    lasted_s: dict[str, float] = field(default_factory=dict)
    """Name of a pair to what it took the last time, preparations included."""

    def n_done(self, pair: Pair) -> int:
        """Return how often a pair was run."""
        return len(self.rows[pair.name].ours_ns) if pair.name in self.rows else 0

    def add(self, pair: Pair, ours: Took, theirs: Took) -> None:
        """Keep what a step took on both sides."""
        for test, what in pair.what.items():
            row = self.rows.setdefault(test, Against(test=test, what=what, ours_ns=[], theirs_ns=[]))
            row.ours_ns.append(ours[test])
            row.theirs_ns.append(theirs[test])

    def against(self) -> list[Against]:
        """Return the rows, in the order in which the tests were first run."""
        return list(self.rows.values())


def run_pairs(
    pairs: Sequence[Pair],
    *,
    seconds: float,
    repetitions: int,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda _share: None,
    record: Record | None = None,
) -> list[Against]:
    """Let both sides take turns: every pair once, whatever it takes, then in rounds as long as there is time.

    A pair is not begun where it would, by what it took before, not end in time; shorter ones go on.

    Args:
        pairs: steps.
        seconds: what all of them may take together.
        repetitions: how often each is run at most.
        stop: asked before every pair; True ends it at once.
        progress: called with the share of the repetitions that are done, or of the seconds if that is more, 0..1.
        record: where samples are kept; one that has some already is continued.

    Returns:
        A row for each test that was run.
    """
    record = Record() if record is None else record
    started = time.perf_counter()
    for i, pair in ((i, pair) for _ in range(repetitions) for i, pair in enumerate(pairs)):
        n_before, now = record.n_done(pair), time.perf_counter()
        if stop():
            break
        if n_before >= repetitions or (n_before and now + record.lasted_s[pair.name] > started + seconds):
            continue
        _run(pair, record, theirs_first=bool((i + n_before) % 2))
        done = sum(map(record.n_done, pairs)) / (len(pairs) * repetitions)
        progress(min(1.0, max(done, (time.perf_counter() - started) / seconds if seconds > 0 else 1.0)))
    return record.against()


def _run(pair: Pair, record: Record, *, theirs_first: bool) -> None:
    """Run both sides once; who begins alternates, from pair to pair and from round to round."""
    begun = time.perf_counter()
    pair.prepare()
    if theirs_first:
        theirs, ours = pair.theirs(), pair.ours()
    else:
        ours, theirs = pair.ours(), pair.theirs()
    record.add(pair, ours, theirs)
    record.lasted_s[pair.name] = time.perf_counter() - begun
