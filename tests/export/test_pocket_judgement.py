"""Laws of the judgement: scores, words and answers about one photograph cannot contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import torch
from aesedge_export.pocket.faults import FAULTS
from aesedge_export.pocket.judgement import (
    LEAST,
    N_CODES,
    Judgement,
    JudgementCode,
    as_tensors,
    attribute_scores,
    draw_judgement,
    label_probabilities,
)
from aesedge_export.pocket.phrases import ATTRIBUTES

pytestmark = pytest.mark.export
DRAWN = [draw_judgement(np.random.default_rng(n)) for n in range(200)]


@pytest.mark.parametrize("quality", [0.0, 0.1, 0.34, 0.5, 0.8, 1.0])
def test_the_score_of_the_labels_is_the_quality(quality: float) -> None:
    high, medium, low = label_probabilities(quality)
    assert high + medium + low == pytest.approx(1)
    assert high + 0.5 * medium == pytest.approx(quality)


def test_the_likeliest_label_changes_at_the_thirds() -> None:
    best = [int(np.argmax(label_probabilities(q))) for q in (0.05, 0.32, 0.34, 0.65, 0.68, 0.99)]
    assert best == [2, 2, 1, 1, 0, 0]


def test_an_attribute_is_below_a_half_where_one_of_its_faults_is_named() -> None:
    for judgement in DRAWN:
        for name, score in judgement.attributes.items():
            assert (score < 0.5) == any(fault in judgement.faults for fault in ATTRIBUTES[name])


def test_the_graph_and_the_words_have_the_same_attributes() -> None:
    scores = attribute_scores(as_tensors(DRAWN)[1])
    expected = [list(judgement.attributes.values()) for judgement in DRAWN]
    assert torch.allclose(scores, torch.tensor(expected), atol=1e-5)


def test_the_code_says_which_faults_come_first() -> None:
    code = JudgementCode(8)
    rows = code.codes(*as_tensors(DRAWN))
    assert rows.shape == (len(DRAWN), N_CODES)
    start = 20 + len(FAULTS) * 6
    for row, judgement in zip(rows, DRAWN, strict=True):
        for at, which in ((start, 0), (start + len(FAULTS), 1)):
            marked = [f for f, there in zip(FAULTS, row[at : at + len(FAULTS)].tolist(), strict=True) if there]
            assert marked == judgement.faults[which : which + 1]


def test_an_attribute_falls_with_each_of_its_faults() -> None:
    for name, faults in ATTRIBUTES.items():
        for fault in faults:
            scores = [Judgement(0.5, {f: u if f == fault else LEAST for f in FAULTS}).attributes[name]
                      for u in (-4.0, -2.0, 0.0, 1.0, 3.0)]  # fmt: skip
            assert scores == sorted(scores, reverse=True)
            assert len(set(scores)) == 5
