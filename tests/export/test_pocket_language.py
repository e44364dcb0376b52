"""Laws of what pocket is taught to say: it names what is there, nothing else, and agrees with the scores."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

from aesedge_export.pocket import language, questions
from aesedge_export.pocket.faults import FAULTS
from aesedge_export.pocket.judgement import LEAST, Judgement, draw_judgement
from aesedge_export.pocket.language import Speaker, named_faults, said_of
from aesedge_export.pocket.phrases import (
    ADVICE,
    ATTRIBUTES,
    CARE,
    LEVELS,
    NAMES,
    PRAISE,
    PREDICATES,
    STATEMENTS,
    WEAKNESS,
)
from aesedge_export.pocket.questions import LEVEL_OPTIONS
from aesedge_export.pocket.talk import Partner, conversation, drill

from aesedge.engine.report import ADVICE as REPORT_ADVICE
from aesedge.engine.report import FAULTS as REPORT_FAULTS
from aesedge.engine.report import STRENGTHS as REPORT_STRENGTHS

pytestmark = pytest.mark.export
DRAWN = [draw_judgement(np.random.default_rng(n)) for n in range(300)]


def only(fault: str, margin: float = 1.5, quality: float = 0.5) -> Judgement:
    return Judgement(quality, {f: margin if f == fault else LEAST for f in FAULTS})


def test_the_same_judgement_says_the_same() -> None:
    assert [Speaker(j).critique() for j in DRAWN] == [Speaker(j).critique() for j in DRAWN]
    talks = [conversation(DRAWN[0], np.random.default_rng(3)) for _ in range(2)]
    assert talks[0] == talks[1]


def test_critiques_vary_with_the_judgement() -> None:
    assert len({Speaker(j).critique() for j in DRAWN}) > 250


def test_a_critique_names_the_two_worst_faults_and_no_other() -> None:
    for judgement in DRAWN:
        assert named_faults(Speaker(judgement).critique()) == set(judgement.faults[:2])


def test_every_critique_is_read_back_sentence_by_sentence() -> None:
    for judgement in DRAWN:
        found = said_of(Speaker(judgement).critique())
        assert found is not None
        assert 2 <= len(found) <= 4 + (len(judgement.faults) > 1)
        assert len(set(found)) == len(found)
    assert said_of("The image is badly tilted.ticalarts") is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_on_every_path(fault: str) -> None:
    speaker = Speaker(only(fault))
    for text in (speaker.critique(), speaker.wrong(), speaker.main(), speaker.advice(), speaker.why()):
        assert named_faults(text) == {fault}, text
    about = next((name for name, faults in ATTRIBUTES.items() if fault in faults), None)
    if about:
        assert fault in named_faults(speaker.analysis(about))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_grade_is_heard(fault: str) -> None:
    said = [Speaker(only(fault, margin)).statement(fault) for margin in (0.2, 1.2, 2.2)]
    assert len(set(said)) == 3


def test_all_phrases_of_a_fault_carry_its_marker_and_no_other() -> None:
    for table in (STATEMENTS, ADVICE, PREDICATES):
        for fault, texts in table.items():
            for text in texts:
                assert named_faults(text.replace("{b}", "much")) == {fault}, text
    praise = [*(t for texts in PRAISE.values() for t in texts), *WEAKNESS.values(), *CARE.values()]
    assert not [text for text in praise if named_faults(text)]
    assert set(LEVELS) == set(PRAISE) == set(ATTRIBUTES)


def test_yes_and_no_agree_with_the_scores() -> None:
    for judgement in DRAWN:
        speaker = Speaker(judgement)
        assert (speaker.is_good() == "Yes.") == (judgement.quality >= 0.5)
        for question, (attribute, when_good) in questions.ATTRIBUTE_YES_NO.items():
            yes = speaker.about_attribute(question) == "Yes."
            assert (yes == when_good) == (judgement.attributes[attribute] >= 0.5)
        for question, (faults, when_there) in questions.YES_NO.items():
            yes = speaker.about_fault(question) == "Yes."
            assert (yes == when_there) == any(fault in judgement.faults for fault in faults)


OPTION = re.compile(r"^\(?([A-D])[).:] (.+)$", re.MULTILINE)


def chosen(turn: tuple[str, str]) -> str:
    """The text of the option that a letter, or a line, names."""
    question, answer = turn
    options = dict(OPTION.findall(question))
    assert len(options) >= 2
    assert answer in options or f"\n{answer}\n" in question, turn
    return options[answer[0]]


def test_the_option_that_is_right_is_the_first_fault() -> None:
    for n, judgement in enumerate(DRAWN):
        name = chosen(Partner(judgement, np.random.default_rng(n)).choice())
        assert name.lower() == (NAMES[judgement.faults[0]] if judgement.faults else "no clear fault")


def test_multiple_choice_about_levels_agrees_with_the_scores() -> None:
    for n, judgement in enumerate(DRAWN):
        turn = Partner(judgement, np.random.default_rng(n)).level_choice()
        about = next((a for a in ATTRIBUTES if a in turn[0]), "")
        score = judgement.attributes[about] if about else judgement.quality
        levels = (*LEVEL_OPTIONS, ("Little", "Some", "Much"))
        place = next(options.index(chosen(turn)) for options in levels if chosen(turn) in options)
        assert place == 2 - min(2, int(3 * score))
        assert turn[0] != language.score_question(about)


def test_multiple_choice_with_yes_and_no_agrees_with_the_plain_answer() -> None:
    for n, judgement in enumerate(DRAWN):
        question, answer = Partner(judgement, np.random.default_rng(n)).yes_no_choice()
        assert {text for _, text in OPTION.findall(question)} == {"Yes", "No"}
        assert chosen((question, answer)) in ("Yes", "No")


def test_of_what_nobody_taught_no_option_is_chosen() -> None:
    for n, judgement in enumerate(DRAWN[:50]):
        question, answer = Partner(judgement, np.random.default_rng(n)).unknown_choice()
        assert len(OPTION.findall(question)) >= 2
        assert answer.startswith("I was not taught that.")


@pytest.mark.parametrize("topic", questions.UNKNOWN_QUESTIONS)
def test_what_nobody_taught_is_said_to_be_unknown(topic: str) -> None:
    partner = Partner(DRAWN[0], np.random.default_rng(0))
    found = [partner.unknown() for _ in range(300)]
    wanted = {question for question, _ in found} & {
        q.replace("{it}", "this photo") for q in questions.UNKNOWN_QUESTIONS[topic]
    }
    assert wanted
    assert all("not taught" in answer for _, answer in found)


def test_the_questions_of_a_report_are_taught() -> None:
    taught = [q.replace("{it}", "this image") for q in (*questions.PRAISE_QUESTIONS, *questions.WRONG_QUESTIONS,
                                                       *questions.ADVICE_QUESTIONS)]  # fmt: skip
    assert {REPORT_STRENGTHS, REPORT_FAULTS, REPORT_ADVICE} <= set(taught)
    assert "Analyze the {attribute} of this image." in questions.ATTRIBUTE_QUESTIONS


def test_the_score_question_is_aesbench_s_byte_for_byte() -> None:
    assert language.score_question() == (
        "How is the aesthetic quality of this image? Choose one from the following options:\n"
        "A) High\nB) Medium\nC) Low\nYou should output a correct option."
    )
    assert language.score_question("sharpness").startswith("How is the sharpness of this image? Choose one")


def test_the_drill_asks_about_what_is_there() -> None:
    for n, judgement in enumerate(DRAWN[:50]):
        assert len(drill(judgement, np.random.default_rng(n))) == 5
