"""LLaVA's templates to the byte, and the token ids around the image."""

from __future__ import annotations

import pytest
from conftest import SHARED

from aesedge.errors import UsageError
from aesedge.llm import LanguageModel
from aesedge.llm.prompt import TEMPLATES, prompt_template

VOCAB = SHARED / "vocab" / "ggml-vocab-llama-spm.gguf"
AESA = (
    "How is the aesthetic quality of this image? Choose one from the following options:\n"
    "A) High\nB) Medium\nC) Low\nYou should output a correct option."
)


@pytest.mark.parametrize(("name", "person"), [("llava_v1", "human"), ("vicuna_v1", "user")])
def test_conversation_templates(name: str, person: str) -> None:
    template = prompt_template(name)
    assert template.before_image == (
        f"A chat between a curious {person} and an artificial intelligence assistant. The assistant gives helpful, "
        f"detailed, and polite answers to the {person}'s questions. USER: "
    )
    assert template.after_image("Why?") == "\nWhy? ASSISTANT:"
    assert template.later_turn("Why?") == "USER: Why? ASSISTANT:"
    assert template.eos_between_turns


def test_plain_template() -> None:
    template = prompt_template("plain")
    assert (template.before_image, template.after_image("Why?")) == ("", "\nWhy?\n")


def test_braces_in_a_question_are_text() -> None:
    assert prompt_template("llava_v1").after_image("{question} {0}") == "\n{question} {0} ASSISTANT:"


def test_unknown_template_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=", ".join(TEMPLATES)):
        prompt_template("chatml")


@pytest.mark.skipif(not VOCAB.is_file(), reason="Llama's vocabulary is not part of this repository")
def test_golden_ids_of_llamas_own_vocabulary() -> None:
    template = prompt_template("llava_v1")
    with LanguageModel(VOCAB, vocab_only=True) as llm:
        before = [llm.bos, *llm.tokenize(template.before_image)]
        after = llm.tokenize(template.after_image(AESA))
        labels = {word: llm.tokenize(word) for word in ("High", "Medium", "Low", "A", "B", "C")}
    assert len(before) == 35
    assert before[:4] == [1, 319, 13563, 1546]
    assert before[-4:] == [3148, 1001, 29901, 29871]
    assert after[:2] == [29871, 13]
    assert after[-5:] == [319, 1799, 9047, 13566, 29901]
    assert len(after) == 48
    assert labels == {"High": [5057], "Medium": [3436, 1974], "Low": [17511], "A": [319], "B": [350], "C": [315]}


def test_ids_of_the_tiny_vocabulary_have_both_dummy_spaces(llm: LanguageModel) -> None:
    template = prompt_template("llava_v1")
    before, after = llm.tokenize(template.before_image), llm.tokenize(template.after_image("x"))
    assert llm.piece(before[0]).startswith(b" A")
    assert llm.piece(before[-1]) == b" "  # the space after "USER:"
    assert [llm.piece(t) for t in after[:2]] == [b" ", b"\n"]
    assert b"".join(map(llm.piece, after)) == b" \nx ASSISTANT:"
