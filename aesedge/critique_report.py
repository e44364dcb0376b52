"""A structured critique: which questions are asked for its fields, and what their answers may look like; knows text.

The fields are asked all at once, so that one batch over one image writes them side by side.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import TYPE_CHECKING

from aesedge.llm import Grammar
from aesedge.result import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.reply import Reply, Writing

# Questions of the kind that AesExpert was trained on; the attributes are the manifest's.
ATTRIBUTE = "Analyze the {attribute} of this image."
STRENGTHS = "What are the strengths of this image?"
FAULTS = "What are the faults of this image?"
ADVICE = "How can the aesthetic quality of this image be improved?"

MOST_ITEMS = 3
# A sentence begins with no small letter and ends with its point: 3.5 and "e.g. blur" end none.
_SENTENCE = r"""
sentence ::= [^a-z\x00-@\[-`{-\x7F] ([^.!?\x00-\x1F] | [.] [0-9a-z]){2,240} [.!?]
"""
_SENTENCES = r'root ::= sentence (" " sentence){0,MORE}' + _SENTENCE
_END = re.compile(r"(?<=[.!?]) ")


def write_report(ask: Callable[[str, Writing], Reply], attributes: Sequence[str], writing: Writing) -> Report:
    """Ask for every field at once, and put the answers together.

    Args:
        ask: makes a reply to a question.
        attributes: what the bundle judges.
        writing: how a field is written, but for its grammar.
    """
    sentences, items = (dataclasses.replace(writing, grammar=_sentences(n)) for n in (2, MOST_ITEMS))
    replies = [
        *(ask(ATTRIBUTE.format(attribute=attribute), sentences) for attribute in attributes),
        ask(STRENGTHS, items),
        ask(FAULTS, items),
        ask(ADVICE, sentences),
    ]
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


@cache
def _sentences(most: int) -> Grammar:
    """Return the grammar of one sentence up to so many."""
    return Grammar.from_gbnf(_SENTENCES.replace("MORE", str(most - 1)))


def _whole(reply: Reply) -> list[str]:
    """Return the sentences of an answer; one that was cut off stays only if it is all there is."""
    found = _END.split(reply.read())
    return found[:-1] if len(found) > 1 and reply.finish_reason != "stop" else found
