"""How far a setting may move scores; knows figures, not what moves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SCORE_TOLERANCE = 0.05
"""Points of 10 that all settings together may move a score, against the defaults with the most precise vision graph.

Half of the last digit that is shown: what is printed changes only where the score stood between two digits. What
llama.cpp changes by itself when it computes the same in other batches is a tenth of that (``aesedge doctor --cache``),
and rounding a model to Q8_0 about as much.
"""


def drift(scores: Iterable[tuple[float, float]]) -> float | None:
    """Return the largest change of a score, in points; None where none was read."""
    changes = [abs(one - other) for one, other in scores]
    # Unlike max(), this keeps what is no number.
    return next((c for c in changes if c != c), max(changes)) if changes else None  # noqa: PLR0124


def is_tolerable(points: float) -> bool:
    """Whether scores may move so far; a score that is no number never may."""
    return points <= SCORE_TOLERANCE
