"""Repeat steps that two programs do, in turns, within a budget of seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.bench.result import Against
from aesedge.tuning.paired_runs import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Took = Mapping[str, int]
    """Test to nanoseconds."""


@dataclass(frozen=True)
class Pair:
    """A step that both sides do; it times one or more tests."""

    what: Mapping[str, str]
    """Test to the description of what both sides do."""
    ours: Callable[[], Took]
    theirs: Callable[[], Took]
    prepare: Callable[[], None] = lambda: None
    """Called before both, and not timed."""

    @property
    def name(self) -> str:
        """Its first test, which no other pair has."""
        return next(iter(self.what))


def run_pairs(
    pairs: Sequence[Pair],
    *,
    seconds: float,
    repetitions: int,
    progress: Callable[[float], None] = lambda _share: None,
    rows: dict[str, Against] | None = None,
) -> list[Against]:
    """Run every pair once, then repeat them in rounds; one that would not end in time is skipped.

    Args:
        pairs: the steps.
        seconds: for all of them.
        repetitions: how often each runs at most.
        progress: called with the share done, 0..1.
        rows: by test, filled in while it runs, so that an interrupted run keeps what it measured.

    Returns:
        A row for each test that ran.
    """
    rows = {} if rows is None else rows
    took: dict[str, float] = {}
    begun = started = time.perf_counter()

    def n_done(pair: Pair) -> int:
        return len(rows[pair.name].ours_ns) if pair.name in rows else 0

    def due() -> Iterator[Pair]:
        nonlocal begun
        for pair in pairs:
            begun = time.perf_counter()
            has_time = begun + took.get(pair.name, 0.0) <= started + seconds
            if n_done(pair) < repetitions and (has_time or not n_done(pair)):
                pair.prepare()
                yield pair

    for pair, ours, theirs in in_turns((due() for _ in range(repetitions)), lambda p: p.ours(), lambda p: p.theirs()):
        for test, what in pair.what.items():
            row = rows.setdefault(test, Against(test=test, what=what, ours_ns=[], theirs_ns=[]))
            row.ours_ns.append(ours[test])
            row.theirs_ns.append(theirs[test])
        now = time.perf_counter()
        took[pair.name] = now - begun
        share = sum(map(n_done, pairs)) / (len(pairs) * repetitions)
        progress(min(1.0, max(share, (now - started) / seconds if seconds > 0 else 1.0)))
    return list(rows.values())
