"""Laws of what pocket is taught to say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from aesedge_export.pocket import language
from aesedge_export.pocket.faults import FAULTS, draw_strengths
from aesedge_export.pocket.impression import known
from aesedge_export.pocket.looks import LOOKS
from aesedge_export.pocket.phrases import ADVICE, LOOK_SENTENCES, OPENINGS, PREDICATES, STATEMENTS
from aesedge_export.pocket.questions import YES_NO
from aesedge_export.pocket.scenes import FLAWS, PLACES

N = 400


def talks(seed: int = 0) -> list[tuple[dict[str, float], list[tuple[str, str]]]]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(N):
        strengths = draw_strengths(rng, i % 4)
        found.append((strengths, language.conversation(known(strengths), rng, LOOKS[: i % 3])))
    return found


def test_same_seed_says_the_same() -> None:
    assert talks(1) == talks(1)
    assert talks(1) != talks(2)


def test_no_absent_fault_is_named() -> None:
    for strengths, turns in talks():
        for question, answer in turns:
            if not question.startswith("Which fault"):
                assert language.named_faults(answer) <= set(strengths), (strengths, question, answer)


def test_answers_are_whole_sentences() -> None:
    for _, turns in talks():
        for question, answer in turns:
            assert answer[0].isupper()
            assert "{" not in answer
            assert "  " not in answer
            if not question.startswith("Which fault"):
                assert answer.endswith(".")
                assert re.search(r"[.;]\s+[a-z]", answer.replace("; I", "")) is None or ";" in answer


def test_every_critique_is_read_back_sentence_by_sentence() -> None:
    rng = np.random.default_rng(0)
    for i in range(N):
        strengths = draw_strengths(rng, i % 4) | ({FLAWS[i % len(FLAWS)]: 0.5} if i % 3 else {})
        critique = language.Speaker(strengths, rng, [*LOOKS[: i % 3], *PLACES[: i % 2]]).critique()
        found = language.said_of(critique)
        assert found is not None
        assert " ".join(found) == critique
        assert 2 <= len(found) <= 4
        assert language.said_of(critique.replace("e", "er", 1)) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_critique_names_the_main_fault_with_its_grade(fault: str) -> None:
    for seed in range(40):
        critique = language.Speaker({fault: 0.9}, np.random.default_rng(seed)).critique()
        assert language.named_faults(critique) == {fault}
        assert "slight" not in critique
        assert 2 <= critique.count(". ") + 1 <= 4


def test_clean_photos_are_praised() -> None:
    for seed in range(60):
        critique = language.Speaker({}, np.random.default_rng(seed), LOOKS[:2]).critique()
        assert language.named_faults(critique) == set()


def test_all_phrases_of_a_fault_carry_its_marker_and_no_other() -> None:
    for table in (STATEMENTS, ADVICE, PREDICATES):
        assert set(table) == {*FAULTS, *FLAWS}
        for fault, sentences in table.items():
            for sentence in sentences:
                assert language.named_faults(sentence) == {fault}, sentence


def test_label_probabilities_move_smoothly_from_high_to_low() -> None:
    rows = np.array([language.label_probabilities(t) for t in np.linspace(0, 1, 101)])
    score = 10 * (rows[:, 0] + 0.5 * rows[:, 1])
    assert np.allclose(rows.sum(1), 1, atol=1e-6)
    assert (np.diff(score) < 0).all()
    assert np.abs(np.diff(score)).max() < 0.5
    assert score[0] > 9
    assert score[-1] < 1


@pytest.mark.parametrize("about", language.SCORED)
def test_severity_rises_with_the_faults_that_an_attribute_asks_about(about: str) -> None:
    for fault in FAULTS:
        values = [language.severity_about(about, {fault: s}) for s in (0.0, 0.4, 0.8)]
        assert values == sorted(values)
    assert language.severity_about("technical quality", {"tilt": 1.0}) == 0
    assert language.severity_about("composition", {"noise": 1.0}) == 0


def test_score_question_is_aesbench_s_byte_for_byte() -> None:
    assert language.score_question("aesthetic quality") == (
        "How is the aesthetic quality of this image? Choose one from the following options:\n"
        "A) High\nB) Medium\nC) Low\nYou should output a correct option."
    )


def test_yes_no_answers_follow_the_fault() -> None:
    speaker = language.Speaker({"tilt": 0.7}, np.random.default_rng(0))
    assert speaker.yes_no("Is this photo tilted?").startswith("Yes")
    assert speaker.yes_no("Is the horizon level?").startswith("No")
    assert speaker.yes_no("Is this image clear?").startswith("Yes")


def test_multiple_choice_holds_its_answer_once() -> None:
    for seed in range(50):
        question, answer = language.Speaker({"noise": 0.6}, np.random.default_rng(seed)).choice()
        assert question.count(answer) == 1
        assert answer.endswith("Noise")


def test_half_of_the_drilled_questions_are_about_what_is_there() -> None:
    for seed in range(60):
        seen = known({"noise": 0.7})
        there, away, *_ = language.drill(seen, np.random.default_rng(seed))
        assert "noise" in YES_NO[there[0]][0]
        assert "noise" not in YES_NO[away[0]][0]
        assert there[1].startswith("Yes" if YES_NO[there[0]][1] else "No")
        assert away[1].startswith("No" if YES_NO[away[0]][1] else "Yes")


def test_verdict_follows_the_severity_that_is_seen_unless_no_fault_can_be_named() -> None:
    openings = {total: language.Speaker({"noise": 0.5}, np.random.default_rng(0), (), total) for total in (0.1, 0.9)}
    assert openings[0.1].critique().startswith(tuple(OPENINGS["Medium"]))
    assert openings[0.9].critique().startswith(tuple(OPENINGS["Low"]))
    assert language.Speaker({}, np.random.default_rng(0), (), 0.9).critique().startswith(tuple(OPENINGS["High"]))


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_of_the_composition_is_said_behind_the_fault(flaw: str) -> None:
    for seed in range(40):
        both = language.Speaker({"noise": 0.3, flaw: 0.5}, np.random.default_rng(seed))
        assert both.main() == "Noise."
        assert language.named_faults(both.critique()) == {"noise", flaw}


@pytest.mark.parametrize("place", PLACES)
def test_the_place_of_the_subject_is_told_when_asked_about_the_composition(place: str) -> None:
    told = language.Speaker({}, np.random.default_rng(0), (place,)).analysis("composition")
    assert any(sentence in told for sentence in LOOK_SENTENCES[place])
    nobody = language.Speaker({}, np.random.default_rng(0), ()).analysis("composition")
    assert "can't tell" in nobody
