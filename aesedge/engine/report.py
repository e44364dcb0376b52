"""Write a structured critique: its fields are asked all at once, so that one batch over one image writes them.

A field has no grammar: one would allow so many sentences, and a model that wants to go on would be left with whatever
else it allows. It is cut after its last sentence instead.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from aesedge.engine.results import Report
from aesedge.llm.text_stream import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.engine.completion import Reply, Writing

# Questions of the kind that AesExpert was trained on; the attributes are the manifest's.
ATTRIBUTE = "Analyze the {attribute} of this image."
STRENGTHS = "What are the strengths of this image?"
FAULTS = "What are the faults of this image?"
ADVICE = "How can the aesthetic quality of this image be improved?"

MOST_SENTENCES = 3  # of a field
_MOST_TOKENS = 160  # of a field, where a model does not end its sentences
_MARK = re.compile(r"(?:[-*\u2022]|[0-9]{1,2}[.)])\s+")  # of an item in a list


def write_report(ask: Callable[[str, Writing], Reply], attributes: Sequence[str], writing: Writing) -> Report:
    """Ask for every field at once, and put the answers together.

    Args:
        ask: makes a reply to a question.
        attributes: what the bundle judges.
        writing: how a field is written, but for its length in sentences.
    """
    n_tokens = min(writing.max_tokens, _MOST_TOKENS)
    in_short = dataclasses.replace(writing, sentences=MOST_SENTENCES, max_tokens=n_tokens, grammar=None)
    questions = [*(ATTRIBUTE.format(attribute=attribute) for attribute in attributes), STRENGTHS, FAULTS, ADVICE]
    replies = [ask(question, in_short) for question in questions]
    try:
        for reply in replies:
            reply.start()
        *of_attributes, strengths, faults, advice = [_whole(reply) for reply in replies]
    except BaseException:
        for reply in replies:
            reply.cancel()
        raise
    texts = [" ".join(said) for said in of_attributes]
    return Report(dict(zip(attributes, texts, strict=True)), strengths, faults, " ".join(advice))


def _whole(reply: Reply) -> list[str]:
    """Return the sentences of an answer; one that was cut off stays only if it is all there is, and shows it."""
    found = [_MARK.sub("", sentence, count=1) for sentence in split_sentences(reply.read()) if sentence]
    if reply.finish_reason == "stop" or not found or found[-1][-1] in ".!?":
        return found
    return found[:-1] or [f"{found[0]}\u2026"]
