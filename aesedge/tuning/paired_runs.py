"""Run two sides in turns, and compare them by the ratios of their turns.

Other programs and the machine's temperature slow everything down now and then, for longer than a step takes. So both
sides do each step right after one another, they alternate in who begins, and what counts is the ratio of each pair.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

S = TypeVar("S")
T = TypeVar("T")
_FEW_PAIRS = 6
"""With fewer pairs, one that was disturbed can be half of what is known."""


def in_turns(rounds: Iterable[Iterable[S]], one: Callable[[S], T], other: Callable[[S], T]) -> Iterator[tuple[S, T, T]]:
    """Let both sides do every step of every round; who begins alternates from step to step and from round to round.

    Args:
        rounds: the steps of each round. Both are taken lazily, so a generator can end or shorten what follows.
        one: does a step.
        other: does the same step.

    Yields:
        The step, and what came of it on either side.
    """
    for i, steps in enumerate(rounds):
        for j, step in enumerate(steps):
            if (i + j) % 2:
                theirs, ours = other(step), one(step)
            else:
                ours, theirs = one(step), other(step)
            yield step, ours, theirs


class Ratio(NamedTuple):
    """What the second side takes, as a share of what the first takes."""

    ratio: float
    """Median of the pairs: below 1 the second side is faster."""
    noise: float
    """Median distance of the pairs from it, or the largest where there are few pairs."""


def ratio_of(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Compare two sides by what they took in each turn, one pair or more."""
    ratios = [other / one for one, other in pairs]
    middle = median(ratios)
    distances = [abs(ratio - middle) for ratio in ratios]
    return Ratio(middle, max(distances) if len(ratios) < _FEW_PAIRS else median(distances))
