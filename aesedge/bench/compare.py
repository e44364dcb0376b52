"""Compare two runs: what became faster or slower by more than chance, and for CI which ratios within a run fell.

How sure a median is: of many samples it is known to 1.96 standard errors, each 1.25 IQR / (1.35 sqrt(n)), the notch of
a box plot (McGill, Tukey and Larsen, "Variations of Box Plots", The American Statistician 32(1), 1978); of fewer than
six, to the distance of the sample that lies farthest from it; of fewer than three nothing is known. All of that is in
logarithms, where ratios are differences, and independent parts add as the root of the sum of squares. Simulated on
normal and on long-tailed noise, two equal runs differ by more in 1 to 11 % of cases, so ``MARGIN`` is added: the
samples of a run do not hold what another hour or another temperature changes.

Seconds of two machines say nothing about the code between them; ratios of two things measured in one run do. They are
made so that more is better. A ratio of two of our own tests also falls where the slower of them became faster, so both
times stand beside it.
"""

from __future__ import annotations

import math
import re
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.bench.result import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Result, Row

MARGIN = 0.03
"""A smaller difference counts as none, however sure: two runs of the same thing differ by as much."""
TOLERANCE = 0.05
"""What a ratio may lose."""
LEAST_SAMPLES = 3
_FEW_SAMPLES = 6
_ERRORS = 1.96 * 1.25 / 1.35
"""Of a median, in IQR / sqrt(n)."""
_SEVERAL = re.compile(r"q(?P<n>\d+)(?P<rest>x.*)")
Verdict = Literal["faster", "slower", "less", "more", "same", "too few samples"]


class Spread(msgspec.Struct, frozen=True):
    """A ratio and its bounds, which are None where there are too few samples to tell."""

    ratio: float
    low: float | None = None
    high: float | None = None

    def is_beyond(self, margin: float) -> bool:
        """Whether it is off 1 by more than the margin, and by more than chance."""
        if self.low is None or self.high is None:
            return False
        return abs(math.log(self.ratio)) > -math.log1p(-margin) and not self.low <= 1 <= self.high


class RowChange(msgspec.Struct, frozen=True):
    """A row that both runs have."""

    test: str
    quantity: Literal["seconds", "bytes"]
    before: float
    """Median time, or memory."""
    after: float
    speed: Spread
    """How many times as fast the later run is; of memory, how many times as little it takes."""
    verdict: Verdict


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs."""

    changes: list[RowChange]
    only_before: list[str]
    """Tests that the later run lacks."""
    only_after: list[str]
    warnings: list[str]
    """Why they may not be comparable, most important first."""


def uncertainty(samples: Sequence[float]) -> float | None:
    """Return how far the median may be off, as a difference of logarithms; None where nothing is known."""
    if len(samples) < LEAST_SAMPLES:
        return None
    logs = sorted(math.log(max(sample, 1e-9)) for sample in samples)
    if len(logs) < _FEW_SAMPLES:
        middle = median(logs)
        return max(middle - logs[0], logs[-1] - middle)
    return _ERRORS * (percentile(logs, 0.75) - percentile(logs, 0.25)) / math.sqrt(len(logs))


def spread(ratio: float, *samples: Sequence[float]) -> Spread:
    """Return a ratio of medians with its bounds, from the samples of everything that it is made of."""
    parts = [uncertainty(each) for each in samples]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return Spread(ratio)
    whole = math.hypot(*known)
    return Spread(ratio, ratio * math.exp(-whole), ratio * math.exp(whole))


def compare(before: Result, after: Result) -> Comparison:
    """Compare the rows of two runs, in the order of the earlier one."""
    old, new = ({row.test: row for row in result.rows} for result in (before, after))
    return Comparison(
        changes=[change for test, row in old.items() if test in new for change in _changes(row, new[test])],
        only_before=[test for test in old if test not in new],
        only_after=[test for test in new if test not in old],
        warnings=differences(before, after),
    )


def _changes(old: Row, new: Row) -> list[RowChange]:
    """Return what can be compared of a row: its time, its memory, or neither."""
    found = []
    if old.samples_ns and new.samples_ns:
        # A run may have had more photos at once: the time of one counts.
        sides = [[ns / 1e9 / (_units(row) if old.unit else 1) for ns in row.samples_ns] for row in (old, new)]
        earlier, later = (max(median(side), 1e-12) for side in sides)
        speed = spread(earlier / later, *sides)
        verdict: Verdict = "too few samples"
        if speed.low is not None:
            verdict = "same" if not speed.is_beyond(MARGIN) else "faster" if speed.ratio > 1 else "slower"
        found.append(RowChange(old.test, "seconds", old.median_s, new.median_s, speed, verdict))
    if old.n_bytes is not None and new.n_bytes is not None:
        little = Spread(max(old.n_bytes, 1) / max(new.n_bytes, 1))
        far = abs(math.log(little.ratio)) > -math.log1p(-MARGIN)
        verdict = "same" if not far else "less" if little.ratio > 1 else "more"
        found.append(RowChange(old.test, "bytes", old.n_bytes, new.n_bytes, little, verdict))
    return found


def differences(before: Result, after: Result, *, machines: bool = True) -> list[str]:
    """Return why two runs may not be comparable, one sentence each.

    Args:
        before: the earlier run.
        after: the later one.
        machines: whether the machine is expected to be the same.
    """
    sides = [_facts(result, machines=machines) for result in (before, after)]
    old, new = sides
    pairs = [(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])]
    found = [f"{name}: {_short(a)} -> {_short(b)}" for name, a, b in pairs if a != b]
    for word, result in (("earlier", before), ("later", after)):
        if not result.ok:
            found.append(f"the {word} run was interrupted")
        disturbed = [str(d.get("what", "")) for d in result.card.disturbances if d.get("disturbs", True)]
        if disturbed:
            found.append(f"the {word} run was disturbed: {', '.join(disturbed)}")
    return found


def _facts(result: Result, *, machines: bool) -> dict[str, Any]:
    """Return what two runs must have in common, the most important first."""
    card = result.card
    machine = {name: value for name, value in card.hardware.items() if name != "ram_free_bytes"} if machines else {}
    return {
        **{f"machine, {name}": value for name, value in machine.items()},
        "random weights": card.random_weights or "none",
        "bundle": card.bundle,
        **{
            f"files, {file.get('role')}": f"{file.get('type')} {str(file.get('sha256', ''))[:12]}"
            for file in card.files
        },
        **{f"settings, {name}": value for name, value in card.plan.items()},
        "backend": card.backend,
        "photos": [photo.get("sha256") for photo in card.photos],
        "what measured the ceilings": card.ceilings.get("source"),
        **{f"libraries, {name}": value for name, value in card.libraries.items()},
    }


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that hardly depends on the speed of the machine."""

    name: str
    value: float
    samples: list[list[float]]
    """What its spread comes from: pairs' ratios, or the times of the tests that it is made of."""
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
    """Medians of the tests that it is made of, before and after, to see on one machine which of them moved."""


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs, compared by their ratios."""

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
            ours, theirs = by_name[fast], by_name[slow]
            found.append(
                Ratio(
                    name=f"{fast} against {slow}",
                    value=theirs.median_s / _units(theirs) / ours.median_s * _units(ours),
                    samples=[_times(ours), _times(theirs)],
                    times_s={fast: ours.median_s, slow: theirs.median_s},
                )
            )
    for row in by_name.values():
        shares = [(ceiling, percent) for ceiling, percent in row.percent_of.items() if percent > 0]
        found += [Ratio(name=f"{row.test}, % of {c}", value=percent, samples=[_times(row)]) for c, percent in shares]
    return found


def _units(row: Row) -> float:
    return row.n if row.unit and row.n > 0 else 1.0


def _times(row: Row) -> list[float]:
    return [ns / 1e9 for ns in row.samples_ns]


def regression(before: Result, after: Result, *, tolerance: float = TOLERANCE) -> Regression:
    """Compare a run by its ratios with an earlier one; a ratio may lose a share of ``tolerance``."""
    old, new = ({ratio.name: ratio for ratio in ratios(result)} for result in (before, after))
    return Regression(
        trends=[_trend(ratio, new[name], tolerance) for name, ratio in old.items() if name in new],
        tolerance=tolerance,
        only_before=[name for name in old if name not in new],
        only_after=[name for name in new if name not in old],
        warnings=differences(before, after, machines=False),
    )


def _trend(old: Ratio, new: Ratio, tolerance: float) -> Trend:
    change = spread(new.value / old.value, *old.samples, *new.samples)
    return Trend(
        name=old.name,
        before=old.value,
        after=new.value,
        change=change,
        fell=change.ratio < 1 and change.is_beyond(tolerance),
        times_s={test: (seconds, new.times_s[test]) for test, seconds in old.times_s.items()},
    )
