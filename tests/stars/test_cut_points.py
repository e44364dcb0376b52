"""Scores become stars by fixed scores or by shares."""

from __future__ import annotations

import pytest

from aesedge.errors import UsageError
from aesedge.stars.cut_points import ABSOLUTE, SHARE, parse_cuts, stars_of


def test_by_fixed_scores() -> None:
    scores = [0.0, 3.49, 3.5, 4.99, 5.0, 6.5, 8.0, 10.0]
    assert stars_of(scores, "absolute", ABSOLUTE) == [1, 1, 2, 2, 3, 4, 5, 5]


def test_by_shares() -> None:
    scores = [float(i) for i in range(100)]
    stars = stars_of(scores, "share", SHARE)
    assert [stars.count(n) for n in (5, 4, 3, None)] == [5, 10, 25, 60]
    assert stars[99] == 5
    assert stars_of([], "share", SHARE) == []


def test_equal_scores_have_equal_stars() -> None:
    assert stars_of([7.0] * 40 + [9.0], "share", SHARE) == [5] * 41 or set(stars_of([7.0] * 40, "share", SHARE)) == {5}


def test_none() -> None:
    assert stars_of([9.0], "none", ABSOLUTE) == [None]


@pytest.mark.parametrize(
    ("text", "rule", "cuts"),
    [
        (None, "absolute", ABSOLUTE),
        (None, "share", SHARE),
        ("1,2,3,4.5", "absolute", (1, 2, 3, 4.5)),
        ("10", "share", (10,)),
    ],
)
def test_cuts_are_read(text: str | None, rule: str, cuts: tuple[float, ...]) -> None:
    assert parse_cuts(text, rule) == cuts


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        *((text, "absolute") for text in ("", "a", "1,2,3", "4,3,2,1", "1,1,2,3", "1,2,3,11", "-1,2,3,4", "nan,1,2,3")),
        *((text, "share") for text in ("1,2,3,4,5,6", "50,101", "5,5")),
    ],
)
def test_other_cuts_are_refused(text: str, rule: str) -> None:
    with pytest.raises(UsageError, match="--cuts"):
        parse_cuts(text, rule)
