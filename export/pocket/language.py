"""Turn a judgement into questions and answers in natural English.

Which words are chosen depends on the judgement alone, so that they are learnt and vary from photo to photo. It never
says what a picture shows, because nobody taught it that.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from aesedge_export.questions import AESTHETIC_QUESTION, OPTIONS

from . import questions as asked
from .colour_stats import DISTURBED_BY
from .judgement import MOST, Judgement
from .phrases import (
    ADVERBS,
    ADVICE,
    ATTRIBUTES,
    BANDS,
    CARE,
    CLOSINGS,
    DEGREES,
    FAULT_MARKERS,
    LEVELS,
    LOOK_SENTENCES,
    NAMES,
    NO_FAULT,
    OPENINGS,
    OTHER_FAULTS,
    PRAISE,
    PREDICATES,
    SECOND,
    STATEMENTS,
    WEAKNESS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = ("High", "Medium", "Low")
GOOD_FROM = 0.5
"""Quality from which a photo is called good, and worth keeping."""
Turn = tuple[str, str]


def score_question(about: str = "") -> str:
    """Return the question that is scored, byte for byte: about the whole, or about one attribute."""
    if not about:
        return AESTHETIC_QUESTION
    return (
        f"How well is noise kept down in this image?{OPTIONS}"
        if about == "noise"
        else f"How is the {about} of this image?{OPTIONS}"
    )


def named_faults(text: str) -> set[str]:
    """Return the faults that a text names."""
    return {fault for fault, marker in FAULT_MARKERS.items() if marker.search(text)}


@cache
def sentences() -> re.Pattern[str]:
    """Return what matches one sentence of a critique, every word as it was taught."""
    lists = (*OPENINGS, *PRAISE.values(), LOOK_SENTENCES.values(), *ADVICE.values(), CLOSINGS, WEAKNESS.values(),
             CARE.values())  # fmt: skip
    plain = [re.escape(sentence) for options in lists for sentence in options]
    fillings = {"{a}": ADVERBS, "{b}": DEGREES}
    second = [SECOND.format(f"{{a}} {predicate}") for options in PREDICATES.values() for predicate in options]
    graded = [re.escape(sentence) for options in (*STATEMENTS.values(), second) for sentence in options]
    for place, words in fillings.items():
        choice = f"(?:{'|'.join(word for options in words for word in options)})"
        graded = [sentence.replace(re.escape(place), choice) for sentence in graded]
    return re.compile("|".join([*plain, *graded]))


def said_of(text: str) -> list[str] | None:
    """Return the sentences of a critique; None if anything in it was not taught."""
    found: list[str] = []
    at = 0
    while at < len(text):
        match = sentences().match(text, at)
        if match is None or text[match.end() : match.end() + 1] not in ("", " "):
            return None
        found.append(match[0])
        at = match.end() + 1
    return found


def choose(options: Sequence[str], place: float) -> str:
    """Return the option that belongs to a place between 0 and 1."""
    return options[min(len(options) - 1, max(0, int(place * len(options))))]


class Speaker:
    """Says things about one photograph."""

    def __init__(self, judgement: Judgement) -> None:
        self.of = judgement
        self.quality, self.faults, self.attributes = judgement.quality, judgement.faults, judgement.attributes
        self.band = sum(self.quality >= limit for limit in BANDS)

    def grade(self, fault: str) -> int:
        """Return 0 for slight, 1 for clear, 2 for severe."""
        return min(2, int(self.of.margins[fault]))

    def adverb(self, fault: str, table: Sequence[Sequence[str]] = ADVERBS) -> str:
        """Return an adverb of the fault's grade: another one in the upper half of the grade."""
        grade = self.grade(fault)
        return table[grade][int(self.of.margins[fault] - grade >= 0.5)]

    def statement(self, fault: str) -> str:
        """Return a sentence about a fault."""
        sentence = choose(STATEMENTS[fault], self.of.margins[fault] / MOST)
        return sentence.replace("{a}", self.adverb(fault)).replace("{b}", self.adverb(fault, DEGREES))

    def predicate(self, fault: str) -> str:
        """Return what follows "It is"."""
        return f"{self.adverb(fault)} {choose(PREDICATES[fault], self.of.margins[fault] / MOST)}"

    def told(self) -> list[str]:
        """Return a sentence about the first fault and one about the second, as far as there are any."""
        return [self.statement(f) for f in self.faults[:1]] + [self.second() for _ in self.faults[1:2]]

    def second(self) -> str:
        """Say what the second fault is; the one form of it is told from the first fault's sentences at its start."""
        return SECOND.format(self.predicate(self.faults[1]))

    def advice_on(self, fault: str) -> str:
        """Say how to avoid a fault."""
        return choose(ADVICE[fault], self.of.margins[fault] / 2)

    def opening(self) -> str:
        """Return the verdict."""
        edges = (0.0, *BANDS, 1.0)
        low, high = edges[self.band], edges[self.band + 1]
        return choose(OPENINGS[self.band], (self.quality - low) / (high - low))

    def look(self) -> list[str]:
        """Return a sentence about a look that no fault has made, if there is one."""
        own = [k for k in self.of.looks if not any(self.of.margins.get(f, -1) > 0 for f in DISTURBED_BY[k])]
        return [LOOK_SENTENCES[own[0]]] if own else []

    def praise(self, attribute: str) -> str:
        """Say what is good about an attribute."""
        return choose(PRAISE[attribute], 2 * self.attributes[attribute] - 1)

    def critique(self) -> str:
        """Return three or four sentences: verdict, faults, what works, what to do."""
        said = [self.opening(), *self.told()]
        good = [self.praise(self.of.best)] if self.attributes[self.of.best] >= 0.5 else []
        if self.faults:
            said += [*(good if len(self.faults) == 1 else []), self.advice_on(self.faults[0])]
        elif self.band >= 3:
            said += [*good, *self.look(), choose(CLOSINGS, (self.quality - BANDS[2]) / 0.3)]
        else:
            said += [WEAKNESS[self.of.worst], *(self.look() or good), CARE[self.of.worst]]
        return " ".join(said)

    def analysis(self, attribute: str) -> str:
        """Analyze an attribute: the faults that spoil it and what to do, or how good it is."""
        own = [f for f in self.faults if f in ATTRIBUTES[attribute]]
        if own:
            return f"{self.statement(own[0])} {self.advice_on(own[0])}"
        score = self.attributes[attribute]
        return LEVELS[attribute][0 if score >= 0.85 else 1 if score >= 0.65 else 2]

    def attribute_advice(self, attribute: str) -> str:
        """Say how to improve an attribute."""
        own = [f for f in self.faults if f in ATTRIBUTES[attribute]]
        return self.advice_on(own[0]) if own else f"{self.analysis(attribute)} {CLOSINGS[0]}"

    def wrong(self) -> str:
        """Answer "What is wrong with this photo?"."""
        if self.faults:
            return f"It is {' and '.join(self.predicate(f) for f in self.faults[:2])}."
        return NO_FAULT if self.band >= 3 else f"{NO_FAULT} {WEAKNESS[self.of.worst]}"

    def main(self) -> str:
        """Name the strongest fault."""
        if not self.faults:
            return NO_FAULT
        return "It is out of focus." if self.faults[0] == "defocus" else f"{NAMES[self.faults[0]].capitalize()}."

    def advice(self) -> str:
        """Say the one thing to do better."""
        if self.faults:
            return self.advice_on(self.faults[0])
        return CLOSINGS[0] if self.band >= 3 else CARE[self.of.worst]

    def strengths(self) -> str:
        """Say what works."""
        good = [name for name in self.attributes if self.attributes[name] >= 0.5]
        return " ".join(self.praise(name) for name in good[:2]) or "Not much: the faults outweigh the rest."

    def why(self) -> str:
        """Return the reason behind a verdict."""
        return " ".join(self.told()) or (self.praise(self.of.best) if self.band >= 3 else WEAKNESS[self.of.worst])

    def more(self) -> str:
        """Say what was not said yet."""
        return self.second() if len(self.faults) > 1 else OTHER_FAULTS if self.faults else NO_FAULT

    def number(self) -> str:
        """Rate from 1 to 10."""
        return f"I give it {max(1, round(10 * self.quality))} of 10."

    def is_good(self, *, when_good: bool = True) -> str:
        """Say whether it is good, or whether it is not."""
        return "Yes." if (self.quality >= GOOD_FROM) == when_good else "No."

    def again(self) -> str:
        """Say whether the photo should be taken again."""
        return "No, it can be kept as it is." if self.quality >= GOOD_FROM else f"Yes. {self.advice()}"

    def about_fault(self, question: str) -> str:
        """Answer a question about some faults with yes or no."""
        faults, when_there = asked.YES_NO[question]
        there = any(f in self.faults for f in faults)
        return "Yes." if there == when_there else "No."

    def about_attribute(self, question: str) -> str:
        """Answer a question about an attribute with yes or no."""
        attribute, when_good = asked.ATTRIBUTE_YES_NO[question]
        return "Yes." if (self.attributes[attribute] >= 0.5) == when_good else "No."
