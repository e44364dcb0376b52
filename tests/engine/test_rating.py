"""The score's arithmetic, on distributions small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aesedge.engine.rating import LabelTokens, label_tokens, rate
from aesedge.errors import BundleFormatError

WEIGHTS = {"high": 1.0, "medium": 0.5, "low": 0.0}


def logits(**p: float) -> np.ndarray:
    """Return logits of 10 tokens; token tN has probability p, the rest is spread over the others."""
    given = {int(name[1:]): value for name, value in p.items()}
    rest = (1 - sum(given.values())) / (10 - len(given))
    return np.log(np.array([given.get(i, rest) for i in range(10)]) + 1e-30).astype(np.float32) + 3.0


def test_score_of_single_tokens() -> None:
    labels = LabelTokens({"high": ((1,),), "medium": ((2,),), "low": ((3,),)}, WEIGHTS)
    r = rate(labels, logits(t1=0.3, t2=0.2, t3=0.1), {})
    assert r.probabilities == pytest.approx({"high": 0.5, "medium": 1 / 3, "low": 1 / 6}, abs=1e-6)
    assert r.score == pytest.approx(10 * (0.5 + 1 / 6), abs=1e-5)
    assert r.off_label == pytest.approx(0.4, abs=1e-6)
    assert r.entropy == pytest.approx(0.5 * math.log(2) + math.log(3) / 3 + math.log(6) / 6, abs=1e-6)


def test_letters_and_words_add_up() -> None:
    labels = LabelTokens({"high": ((1,), (4,)), "medium": ((2,),), "low": ((3,),)}, WEIGHTS)
    r = rate(labels, logits(t1=0.2, t4=0.4, t2=0.1, t3=0.1), {})
    assert r.probabilities["high"] == pytest.approx(0.6 / 0.8, abs=1e-6)


def test_answers_of_several_tokens_multiply() -> None:
    labels = LabelTokens({"high": ((1,),), "medium": ((2, 5, 6),), "low": ((3,),)}, WEIGHTS)
    assert labels.prefixes == [(2,), (2, 5)]
    after = {(2,): logits(t5=0.5), (2, 5): logits(t6=0.8)}
    r = rate(labels, logits(t1=0.3, t2=0.5, t3=0.1), after)
    assert r.probabilities["medium"] == pytest.approx(0.2 / 0.6, abs=1e-6)
    assert r.off_label == pytest.approx(0.4, abs=1e-6)


def test_certainty() -> None:
    labels = LabelTokens({"high": ((1,),), "low": ((3,),)}, {"high": 1.0, "low": 0.0})
    r = rate(labels, logits(t1=1.0), {})
    assert (r.score, r.off_label) == (pytest.approx(10.0), pytest.approx(0.0, abs=1e-6))
    assert r.entropy == pytest.approx(0.0, abs=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    labels = LabelTokens({"high": ((1,),), "low": ((3,),)}, {"high": 1.0, "low": 0.0})
    assert rate(labels, logits(t1=0.5, t3=0.5) * 1e4, {}).score == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize("answers", [{"a": ["x"], "b": ["x"]}, {"a": ["x"], "b": ["xy"]}, {"a": ["x"], "b": [""]}])
def test_answers_that_cannot_be_told_apart_are_refused(answers: dict[str, list[str]]) -> None:
    with pytest.raises(BundleFormatError, match="answers"):
        label_tokens(answers, {"a": 1.0, "b": 0.0}, lambda text: [ord(c) for c in text])


def test_the_same_answer_twice_under_one_label_counts_once() -> None:
    labels = label_tokens({"a": ["x", "x"], "b": ["y"]}, {"a": 1.0, "b": 0.0}, lambda text: [ord(c) for c in text])
    assert labels.answers["a"] == ((ord("x"),),)
