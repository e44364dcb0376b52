"""How far two readings of the same photo are apart, and how far they may be.

**Limits.** Reuse passes where the bits are the same, or where it changes no more than the backend changes by itself,
which :mod:`aesedge.doctor.batch_noise` measures on this machine without any reuse. There are three such floors. What is
computed in the same batches is held to the first: on a CPU the bits are mostly the same then, but where in the cache
an image lies can make a difference. What is computed in other batches, as when several questions are asked together,
is held to the second: llama.cpp adds in another order then, and with flash attention on a CPU in half precision where
a batch has fewer than 64 rows. A conversation has a third, measured on its own words.

A floor is the largest of a few samples, so reuse may exceed it a little by chance. Below :data:`LEAST_NLL` and
:data:`LEAST_POINTS` nothing fails: keys and values are kept in half precision, which rounds by up to 2**-11, and 0.005
points are a twentieth of the last digit that is shown. No mistaken photo hides there: photos must be :data:`APART`
times the higher limit apart, or the examination fails because it cannot tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.engine.likelihood import Likelihood
    from aesedge.engine.results import Rating

LEAST_NLL = 2.0**-11
"""Nats per token."""
LEAST_POINTS = 0.005
APART = 10


@dataclass(frozen=True)
class Difference:
    """Between two readings, or the largest between several; None is what was not read."""

    nll: float | None = None
    """Mean absolute change in negative log-likelihood per token, so that nothing cancels."""
    points: float | None = None
    """Change of the score, of 10."""
    same_bits: bool = True

    def __or__(self, other: Difference) -> Difference:
        return Difference(
            _larger(self.nll, other.nll), _larger(self.points, other.points), self.same_bits and other.same_bits
        )


def _larger(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return float(np.maximum(one, other))  # unlike max(), this keeps NaN


def between_texts(one: Likelihood, other: Likelihood) -> Difference:
    """Return how far two readings of the same text are apart."""
    change = np.abs(np.subtract(one.nll, other.nll))
    return Difference(nll=float(change.mean()), same_bits=one.digest == other.digest)


def between_ratings(one: Rating, other: Rating) -> Difference:
    """Return how far two ratings are apart."""
    return Difference(points=abs(one.score - other.score), same_bits=one == other)


def largest(differences: Iterable[Difference]) -> Difference:
    """Return the largest figures of all."""
    found = Difference()
    for difference in differences:
        found |= difference
    return found


@dataclass(frozen=True)
class Limits:
    """What may differ, by what the backend changes by itself."""

    noise: Difference

    @property
    def nll(self) -> float:
        """Nats per token."""
        return _larger(self.noise.nll, LEAST_NLL) or LEAST_NLL

    @property
    def points(self) -> float:
        """Points of the score."""
        return _larger(self.noise.points, LEAST_POINTS) or LEAST_POINTS

    def problem(self, found: Difference) -> str:
        """Return what is too much, or an empty text."""
        nll, points = found.nll or 0.0, found.points or 0.0
        if found.same_bits or (nll <= self.nll and points <= self.points):
            return ""
        return (
            f"answers change by {nll:.2g} nats per token (limit {self.nll:.2g}) and {points:.2g} points "
            f"(limit {self.points:.2g})"
        )


class Floors(NamedTuple):
    """What may differ in the same batches, in other batches, and in a conversation."""

    same: Limits
    other: Limits
    turns: Limits


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    group: str
    name: str
    found: Difference
    limits: Limits
    problem: str = ""
    """What is wrong; empty if nothing is."""
    skipped: str = ""
    """Why it could not be done; empty if it was."""
    least_nll: float | None = None
    """What the change must be at least; None where it must be small."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem
