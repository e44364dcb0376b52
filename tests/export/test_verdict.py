"""Verdicts follow llama.cpp's published figures, and never get better when a figure gets worse."""

from __future__ import annotations

import pytest
from aesedge_export.parity.verdict import GRADES, NOT_USABLE, limits_of_verdicts, verdict

WORDS = [*(grade.verdict for grade in GRADES), NOT_USABLE]


@pytest.mark.parametrize(
    ("published_kl", "expected"),
    [(0.000369, "as the original"), (0.002098, "as the original"), (0.012686, "close"), (0.108903, WORDS[2])],
    ids=["Q8_0", "Q6_K", "Q4_K_M", "Q2_K"],
)
def test_llama_2_7b_gets_the_words_that_its_types_are_known_for(published_kl: float, expected: str) -> None:
    assert verdict(published_kl, 0.0) == expected


@pytest.mark.parametrize(
    ("drift", "expected"), [(0.04, WORDS[0]), (0.06, WORDS[1]), (0.4, WORDS[2]), (1.1, NOT_USABLE)]
)
def test_a_score_that_moves_spoils_an_equal_distribution(drift: float, expected: str) -> None:
    assert verdict(0.0, drift) == expected


def test_the_worse_of_two_figures_decides() -> None:
    for kl in (0.0, 0.01, 0.1, 1.0):
        for drift in (0.0, 0.2, 0.7, 5.0):
            found = WORDS.index(verdict(kl, drift))
            assert found == max(WORDS.index(verdict(kl, 0.0)), WORDS.index(verdict(0.0, drift)))


def test_what_is_not_a_number_is_not_usable() -> None:
    assert verdict(float("nan"), 0.0) == NOT_USABLE
    assert verdict(0.0, float("nan")) == NOT_USABLE


def test_the_manifest_says_what_the_words_mean() -> None:
    for word, limits in limits_of_verdicts().items():
        assert verdict(limits["mean_kl"], limits["max_score_drift"]) == word
        assert verdict(limits["mean_kl"] * 1.01, limits["max_score_drift"]) != word
