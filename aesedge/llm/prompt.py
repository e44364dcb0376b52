"""Build the text around an image from LLaVA's conversation templates.

An image splits a prompt into two texts that are tokenised separately, as LLaVA's ``tokenizer_image_token`` does,
so that each begins with SentencePiece's dummy-prefix space. BOS stands once, before the first text.
Source: haotian-liu/LLaVA, ``llava/conversation.py`` and ``llava/mm_utils.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from aesedge.errors import UsageError


@dataclass(frozen=True)
class PromptTemplate:
    """One conversation template."""

    name: str
    before_image: str
    """Text between BOS and the image; empty if there is none."""
    question: str
    """Text after the image in the first turn, with ``{question}`` in it."""
    next_question: str
    """Text of a later turn, with ``{question}`` in it."""
    eos_between_turns: bool
    """Whether the end-of-sequence token closes an answer before the next turn."""

    def after_image(self, question: str) -> str:
        """Return the text that follows the image, up to where the answer begins."""
        return self.question.replace("{question}", question.strip())

    def later_turn(self, question: str) -> str:
        """Return the text of a later turn, up to where the answer begins."""
        return self.next_question.replace("{question}", question.strip())


def _vicuna(name: str, person: str) -> PromptTemplate:
    system = (
        f"A chat between a curious {person} and an artificial intelligence assistant. "
        f"The assistant gives helpful, detailed, and polite answers to the {person}'s questions."
    )
    return PromptTemplate(
        name=name,
        before_image=f"{system} USER: ",
        question="\n{question} ASSISTANT:",
        next_question="USER: {question} ASSISTANT:",
        eos_between_turns=True,
    )


TEMPLATES = {
    template.name: template
    for template in (
        _vicuna("llava_v1", "human"),
        _vicuna("vicuna_v1", "user"),
        # LLaVA's pre-training template: no system text, no roles. LLaVA knows no second turn for it.
        PromptTemplate("plain", "", "\n{question}\n", "{question}\n", eos_between_turns=False),
    )
}


def prompt_template(name: str) -> PromptTemplate:
    """Return a template by name.

    Raises:
        UsageError: there is no such template.
    """
    try:
        return TEMPLATES[name]
    except KeyError:
        raise UsageError(f"unknown prompt template {name!r}; there are {', '.join(TEMPLATES)}") from None
