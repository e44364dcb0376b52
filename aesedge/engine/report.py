"""Write a structured critique: all its fields are generated in the same batches, over one image.

A field has no grammar: with one for three sentences, a model that wants to write a fourth continues the third with
whatever the grammar still allows. The field is cut after its last sentence instead.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from aesedge.engine.answer import read_all
from aesedge.engine.results import Report
from aesedge.errors import UsageError
from aesedge.llm.text_stream import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.engine.answer import Answer, AnswerStream
    from aesedge.engine.generation_options import GenerationOptions

# Questions of the kind that AesExpert was trained on; the attributes are the manifest's.
ATTRIBUTE = "Analyze the {attribute} of this image."
STRENGTHS = "What are the strengths of this image?"
FAULTS = "What are the faults of this image?"
ADVICE = "How can the aesthetic quality of this image be improved?"

MOST_SENTENCES = 3  # of a field
_MOST_TOKENS = 160  # of a field, where a model does not end its sentences
_LIST_MARK = re.compile(r"(?:[-*\u2022]|[0-9]{1,2}[.)])\s+")  # of an item in a list


def write_report(
    stream_all: Callable[[Sequence[str], GenerationOptions], list[AnswerStream]],
    attributes: Sequence[str],
    options: GenerationOptions,
) -> Report:
    """Ask for all fields at once, and put the answers together.

    Args:
        stream_all: begins the answers to several questions.
        attributes: what the bundle judges.
        options: how a field is generated; its length is limited to three sentences and 160 tokens.

    Raises:
        UsageError: the options have a grammar.
    """
    if options.grammar is not None:
        raise UsageError("a report has a form of its own and takes no grammar; use ask with one")
    short = dataclasses.replace(
        options,
        sentences=min(options.sentences or MOST_SENTENCES, MOST_SENTENCES),
        max_tokens=min(options.max_tokens, _MOST_TOKENS),
    )
    questions = [*(ATTRIBUTE.format(attribute=attribute) for attribute in attributes), STRENGTHS, FAULTS, ADVICE]
    answers = read_all(stream_all(questions, short))
    *of_attributes, strengths, faults, advice = map(_sentences, answers)
    texts = [" ".join(found) for found in of_attributes]
    return Report(dict(zip(attributes, texts, strict=True)), tuple(strengths), tuple(faults), " ".join(advice))


def _sentences(answer: Answer) -> list[str]:
    """Return the sentences of an answer; one that was cut off stays only if it is the only one, with an ellipsis."""
    found = [_LIST_MARK.sub("", sentence, count=1) for sentence in split_sentences(answer.text) if sentence]
    if answer.finish_reason == "stop" or not found or found[-1][-1] in ".!?":
        return found
    return found[:-1] or [f"{found[0]}\u2026"]
