"""Two runs side by side: what became faster or slower by more than chance; knows results, not how they are shown.

How sure a median is: of many samples it is known to 1.96 standard errors, each 1.25 IQR / (1.35 sqrt(n)), which is the
notch of a box plot (McGill, Tukey and Larsen, "Variations of Box Plots", The American Statistician 32(1), 1978); of
fewer than six, to the distance of the sample that lies farthest from it; of fewer than three nothing is known. All of
that is counted on logarithms, where ratios are differences, and what ratios are made of adds up as the root of the sum
of squares. Simulated on normal and on long-tailed noise, two runs that are the same differ by more in 1 to 11 % of
cases, so ``MARGIN`` goes on top: what another hour or another temperature changes is not in the samples of either run.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.bench.result import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Card, Result, Row

MARGIN = 0.03
"""A difference below it counts as none, however sure: two runs of the same thing differ by as much."""
LEAST_SAMPLES = 3
_FEW_SAMPLES = 6
_ERRORS = 1.96 * 1.25 / 1.35
"""Of a median, in IQR / sqrt(n)."""
Verdict = Literal["faster", "slower", "less", "more", "same", "too few samples"]


class Spread(msgspec.Struct, frozen=True):
    """A ratio and between what it lies; the bounds are None where there are too few samples to tell."""

    ratio: float
    low: float | None = None
    high: float | None = None

    def is_beyond(self, margin: float) -> bool:
        """Whether it is off 1 by more than the margin, and by more than chance."""
        if self.low is None or self.high is None:
            return False
        return abs(math.log(self.ratio)) > -math.log1p(-margin) and not self.low <= 1 <= self.high


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A row that both runs have."""

    test: str
    quantity: Literal["seconds", "bytes"]
    """What is compared: the median time, or memory."""
    before: float
    after: float
    speed: Spread
    """How many times as fast the later run is; of memory, how many times as little it takes."""
    verdict: Verdict


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs."""

    changes: list[Change]
    only_before: list[str]
    """Tests that the later run lacks."""
    only_after: list[str]
    warnings: list[str]
    """Why they may not be comparable, most important first."""


def uncertainty(samples: Sequence[float]) -> float | None:
    """Return how far the median may be off, either way, as a difference of logarithms; None where nothing is known."""
    if len(samples) < LEAST_SAMPLES:
        return None
    logs = sorted(math.log(max(sample, 1e-9)) for sample in samples)
    if len(logs) < _FEW_SAMPLES:
        middle = median(logs)
        return max(middle - logs[0], logs[-1] - middle)
    return _ERRORS * (percentile(logs, 0.75) - percentile(logs, 0.25)) / math.sqrt(len(logs))


def spread(ratio: float, *samples: Sequence[float]) -> Spread:
    """Return a ratio of medians with what is known of it, from the samples of everything that it is made of."""
    parts = [uncertainty(each) for each in samples]
    if any(part is None for part in parts):
        return Spread(ratio)
    whole = math.sqrt(sum(part * part for part in parts if part is not None))
    return Spread(ratio, ratio * math.exp(-whole), ratio * math.exp(whole))


def compare(before: Result, after: Result) -> Comparison:
    """Put the rows of two runs side by side, in the order of the earlier one."""
    old, new = ({row.test: row for row in result.rows} for result in (before, after))
    changes = [change for test, row in old.items() if test in new for change in _changes(row, new[test])]
    return Comparison(
        changes=changes,
        only_before=[test for test in old if test not in new],
        only_after=[test for test in new if test not in old],
        warnings=differences(before, after),
    )


def _changes(old: Row, new: Row) -> list[Change]:
    """Return what can be said of a row; nothing where the one has times and the other has none."""
    found = []
    if old.samples_ns and new.samples_ns:
        counted = bool(old.unit)  # a run may have had more photos at once: what counts is the time of one
        sides = [[ns / 1e9 / (row.n if counted and row.n > 0 else 1) for ns in row.samples_ns] for row in (old, new)]
        earlier, later = (max(median(side), 1e-12) for side in sides)
        speed = spread(earlier / later, *sides)
        found.append(
            Change(
                test=old.test, quantity="seconds", before=old.median_s, after=new.median_s, speed=speed,
                verdict=_verdict(speed),
            )
        )  # fmt: skip
    if old.n_bytes is not None and new.n_bytes is not None:
        little = Spread(max(old.n_bytes, 1) / max(new.n_bytes, 1))
        far = abs(math.log(little.ratio)) > -math.log1p(-MARGIN)
        verdict: Verdict = ("less" if little.ratio > 1 else "more") if far else "same"
        found.append(
            Change(
                test=old.test, quantity="bytes", before=old.n_bytes, after=new.n_bytes, speed=little, verdict=verdict
            )
        )
    return found


def _verdict(speed: Spread) -> Verdict:
    if speed.low is None:
        return "too few samples"
    if not speed.is_beyond(MARGIN):
        return "same"
    return "faster" if speed.ratio > 1 else "slower"


def differences(before: Result, after: Result, *, machines: bool = True) -> list[str]:
    """Return why two runs may not be comparable, one sentence each.

    Args:
        before: the earlier run.
        after: the later one.
        machines: whether the machine is expected to be the same.
    """
    old, new = before.card, after.card
    pairs: list[tuple[str, Any, Any]] = [
        ("random weights", old.random_weights or "none", new.random_weights or "none"),
        ("bundle", old.bundle, new.bundle),
        *_dictionary("files", _hashes(old), _hashes(new)),
        *_dictionary("settings", old.plan, new.plan),
        ("backend", old.backend, new.backend),
        ("photos", [p.get("sha256") for p in old.photos], [p.get("sha256") for p in new.photos]),
        ("what measured the ceilings", old.ceilings.get("source"), new.ceilings.get("source")),
        *_dictionary("libraries", old.libraries, new.libraries),
    ]
    if machines:
        stable = [{k: v for k, v in card.hardware.items() if k != "ram_free_bytes"} for card in (old, new)]
        pairs = _dictionary("machine", *stable) + pairs
    found = [f"{name}: {_short(a)} -> {_short(b)}" for name, a, b in pairs if a != b]
    for word, result in (("earlier", before), ("later", after)):
        if not result.complete:
            found.append(f"the {word} run was interrupted")
        disturbed = [str(d.get("what", "")) for d in result.card.disturbances if d.get("disturbs", True)]
        if disturbed:
            found.append(f"the {word} run was disturbed: {', '.join(disturbed)}")
    return found


def _dictionary(name: str, old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(f"{name}, {key}", old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]


def _hashes(card: Card) -> dict[str, Any]:
    return {str(file.get("role")): f"{file.get('type')} {str(file.get('sha256', ''))[:12]}" for file in card.files}


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
