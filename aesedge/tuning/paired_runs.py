"""Run two sides in turns, and compare them by the ratios of their turns.

Other programs and the machine's temperature slow everything down now and then, for longer than a step takes. So both
sides do each step right after one another, alternate in who begins, and are compared by the ratio of each pair.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

S = TypeVar("S")
T = TypeVar("T")
_FEW_PAIRS = 6
"""With fewer pairs, a single disturbed one can be half of the evidence."""


def in_turns(rounds: Iterable[Iterable[S]], one: Callable[[S], T], other: Callable[[S], T]) -> Iterator[tuple[S, T, T]]:
    """Let both sides do every step of every round; yield the step with both results.

    Who begins alternates from step to step and from round to round. Rounds and steps are taken lazily, so a generator
    can end or shorten what follows.
    """
    for i, steps in enumerate(rounds):
        for j, step in enumerate(steps):
            if (i + j) % 2:
                theirs, ours = other(step), one(step)
            else:
                ours, theirs = one(step), other(step)
            yield step, ours, theirs


class PairedRatio(NamedTuple):
    """Time of the second side as a share of the first side's."""

    ratio: float
    """Median of the pairs: below 1 the second side is faster."""
    noise: float
    """Median distance of the pairs from it, or the largest where there are few pairs."""


def ratio_of(pairs: Sequence[tuple[float, float]]) -> PairedRatio:
    """Compare two sides by their times in each turn, one pair or more."""
    ratios = [other / one for one, other in pairs]
    middle = median(ratios)
    distances = [abs(ratio - middle) for ratio in ratios]
    return PairedRatio(middle, max(distances) if len(ratios) < _FEW_PAIRS else median(distances))
