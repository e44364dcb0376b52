"""Whether a run lost what an earlier one had, on another machine: by ratios of things that were measured together.

Seconds of two machines say nothing of the code between them; how many times as fast the one is as the other, both
measured in the same run, does. Every ratio is made so that more is better. What it cannot tell: a ratio of two of our
own tests also falls where the slower one of them became faster, so both times are kept beside it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from aesedge.bench.compare import Spread, differences, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Result, Row

TOLERANCE = 0.05
_SEVERAL = re.compile(r"q(?P<n>\d+)(?P<rest>x.*)")


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not depend on how fast the machine is, as far as that can be."""

    name: str
    value: float
    samples: list[list[float]]
    """Everything that its spread comes from: pairs' ratios, or the times of the tests that it is made of."""
    times_s: dict[str, float] = {}
    """Medians of the tests that it is made of."""


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio in both runs."""

    name: str
    before: float
    after: float
    change: Spread
    """The later ratio as a share of the earlier one: below 1 it fell."""
    fell: bool
    """By more than the tolerance, and by more than chance."""
    times_s: dict[str, tuple[float, float]]
    """Medians of the tests that it is made of, before and after: which of them moved shows on one machine alone."""


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing two runs by their ratios."""

    trends: list[Trend]
    tolerance: float
    only_before: list[str]
    only_after: list[str]
    warnings: list[str]

    @property
    def fallen(self) -> list[Trend]:
        """What regressed."""
        return [trend for trend in self.trends if trend.fell]


def ratios(result: Result) -> list[Ratio]:
    """Return what can be compared across machines, in an order that stays."""
    by_name = {row.test: row for row in result.rows if row.samples_ns}
    pairs = [("ttft kv", "ttft cold"), ("ttft embeddings", "ttft cold")]
    for test in by_name:
        several = _SEVERAL.fullmatch(test)
        if several and several["n"] != "1":
            pairs.append((test, f"q1{several['rest']}"))
    reference = next(iter(result.reference.split()), "the reference")  # its name without its version
    found = [
        Ratio(name=f"{pair.test} against {reference}", value=pair.ratio, samples=[pair.ratios])
        for pair in result.against
        if pair.ratios and min(pair.ratios) > 0
    ]
    for fast, slow in pairs:
        if fast in by_name and slow in by_name:
            ours, theirs = _times(by_name[fast]), _times(by_name[slow])
            value = by_name[slow].median_s / _units(by_name[slow]) / by_name[fast].median_s * _units(by_name[fast])
            medians = {test: by_name[test].median_s for test in (fast, slow)}
            name = f"{fast} against {slow}"
            found.append(Ratio(name=name, value=value, samples=[ours, theirs], times_s=medians))
    for row in by_name.values():
        shares = [(ceiling, percent) for ceiling, percent in row.percent_of.items() if percent > 0]
        found += [Ratio(name=f"{row.test}, % of {c}", value=percent, samples=[_times(row)]) for c, percent in shares]
    return found


def _units(row: Row) -> float:
    return row.n if row.unit and row.n > 0 else 1.0


def _times(row: Row) -> list[float]:
    return [ns / 1e9 for ns in row.samples_ns]


def regression(before: Result, after: Result, *, tolerance: float = TOLERANCE) -> Regression:
    """Compare two runs by their ratios.

    Args:
        before: the run that sets the mark.
        after: the run that must not fall behind it.
        tolerance: what a ratio may lose, as a share of it.
    """
    old, new = ({ratio.name: ratio for ratio in ratios(result)} for result in (before, after))
    trends = [_trend(ratio, new[name], tolerance) for name, ratio in old.items() if name in new]
    return Regression(
        trends=trends,
        tolerance=tolerance,
        only_before=[name for name in old if name not in new],
        only_after=[name for name in new if name not in old],
        warnings=differences(before, after, machines=False),
    )


def _trend(old: Ratio, new: Ratio, tolerance: float) -> Trend:
    samples: Sequence[list[float]] = [*old.samples, *new.samples]
    change = spread(new.value / old.value, *samples)
    fell = change.ratio < 1 and change.is_beyond(tolerance)
    times = {test: (seconds, new.times_s[test]) for test, seconds in old.times_s.items()}
    return Trend(name=old.name, before=old.value, after=new.value, change=change, fell=fell, times_s=times)
