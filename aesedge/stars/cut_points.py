"""Turn scores into stars, by fixed scores or by shares of the best."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Literal

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Rule = Literal["absolute", "share", "none"]
ABSOLUTE = (3.5, 5.0, 6.5, 8.0)
"""Scores from which a photo has 2, 3, 4 and 5 stars."""
SHARE = (5.0, 15.0, 40.0)
"""Percent of the photos that have 5, at least 4, and at least 3 stars."""


def parse_cuts(text: str | None, rule: Rule) -> tuple[float, ...]:
    """Return the cut points of ``--cuts``, or the default ones.

    Raises:
        UsageError: they are no ascending numbers, or too many or few.
    """
    if text is None:
        return SHARE if rule == "share" else ABSOLUTE
    try:
        cuts = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--cuts {text!r}: write numbers with commas between, e.g. 3.5,5,6.5,8") from None
    most = 100 if rule == "share" else 10
    if any(not 0 <= cut <= most for cut in cuts) or list(cuts) != sorted(set(cuts)):
        raise UsageError(f"--cuts {text}: write ascending numbers between 0 and {most}")
    if rule == "share" and len(cuts) > 5:
        raise UsageError(f"--cuts {text}: write at most five shares, in percent: of 5 stars, of at least 4, and so on")
    if rule != "share" and len(cuts) != 4:
        raise UsageError(f"--cuts {text}: write four scores: from which on there are 2, 3, 4 and 5 stars")
    return cuts


def stars_of(scores: Sequence[float], rule: Rule, cuts: Sequence[float]) -> list[int | None]:
    """Return stars, 1 to 5, for each score; None for a photo that gets none."""
    if rule == "none":
        return [None] * len(scores)
    if rule == "absolute":
        return [1 + bisect.bisect_right(cuts, score) for score in scores]
    ascending = sorted(scores)
    found: list[int | None] = []
    for score in scores:
        n_better = len(scores) - bisect.bisect_right(ascending, score)  # equal scores have equal stars
        level = bisect.bisect_right(cuts, 100 * n_better / len(scores))
        found.append(5 - level if level < len(cuts) else None)
    return found
