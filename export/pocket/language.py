"""Turn a judgement into questions and answers in natural English.

Which words are chosen depends on the judgement alone, so that they are learnt and vary from photo to photo. It never
says what a picture shows, because nobody taught it that.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from aesedge_export.questions import AESTHETIC_QUESTION, OPTIONS

from . import questions as asked
from .colour_stats import DISTURBED_BY
from .judgement import MOST, Judgement
from .phrases import (
    ABOUT_ITSELF,
    ADVERBS,
    ADVICE,
    ATTRIBUTES,
    BANDS,
    CARE,
    CLOSINGS,
    DEGREES,
    FAULT_MARKERS,
    GREETING,
    IN_A_WORD,
    LEVELS,
    LOOK_SENTENCES,
    NAMES,
    NO_FAULT,
    OPENINGS,
    OTHER_FAULTS,
    PRAISE,
    PREDICATES,
    STATEMENTS,
    THANKS,
    UNKNOWN,
    WEAKNESS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    graded = [re.escape(sentence) for options in STATEMENTS.values() for sentence in options]
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
        said = [self.opening(), *(self.statement(f) for f in self.faults[:2])]
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
        return " ".join(self.statement(f) for f in self.faults[:2]) or (
            self.praise(self.of.best) if self.band >= 3 else WEAKNESS[self.of.worst]
        )

    def more(self) -> str:
        """Say what was not said yet."""
        return self.statement(self.faults[1]) if len(self.faults) > 1 else OTHER_FAULTS if self.faults else NO_FAULT

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


class Partner:
    """Asks about one photograph at random, and knows the answers."""

    def __init__(self, judgement: Judgement, rng: np.random.Generator) -> None:
        self.speaker, self.rng = Speaker(judgement), rng

    def pick(self, options: Sequence[str]) -> str:
        """Pick one."""
        return options[int(self.rng.integers(len(options)))]

    def worded(self, question: str, **words: str) -> str:
        """Return a question in full, now and then as careless people write."""
        text = question.replace("{it}", self.pick(asked.PHOTO))
        for name, word in words.items():
            text = text.replace(f"{{{name}}}", word)
        if text.endswith("?") and self.rng.random() < 0.06:
            text = text[:-1]
        if self.rng.random() < 0.06:
            text = text[0].lower() + text[1:]
        return text

    def yes_no(self, *, there: bool | None = None) -> Turn:
        """Return a question about faults with its answer: about one that is there, one that is not, or any."""
        fitting = [q for q, (faults, _) in asked.YES_NO.items()
                   if there is None or there == any(f in self.speaker.faults for f in faults)]  # fmt: skip
        question = self.pick(fitting or tuple(asked.YES_NO))
        return self.worded(question), self.speaker.about_fault(question)

    def attribute_yes_no(self) -> Turn:
        """Return a question about an attribute with its answer."""
        question = self.pick(tuple(asked.ATTRIBUTE_YES_NO))
        return self.worded(question), self.speaker.about_attribute(question)

    def choice(self) -> Turn:
        """Return a multiple choice question about the main fault, with letters, and its answer."""
        faults = self.speaker.faults
        right = faults[0] if faults else "none"
        others = [f for f in (*NAMES, "none") if f not in faults and f != right]
        options = [right, *self.rng.permutation(others)[: int(self.rng.integers(1, 4))]]
        names = {**NAMES, "none": "no clear fault"}
        lines = [f"{letter}) {names[str(o)].capitalize()}"
                 for letter, o in zip("ABCD", self.rng.permutation(options), strict=False)]  # fmt: skip
        answer = next(line for line in lines if line.endswith(names[right].capitalize()))
        head = self.pick(asked.CHOICE_QUESTIONS)
        tail, short = (
            ("You should output a correct option without explanation.", False), ("Answer with the letter only.", True),
            ("You should output a correct option.", False),
        )[int(self.rng.integers(3))]  # fmt: skip
        return "\n".join([head, *lines, tail]), answer[0] if short else answer

    def attribute(self) -> Turn:
        """Return a question about an attribute in one of its words, with its answer."""
        attribute = self.pick(tuple(ATTRIBUTES))
        word = self.pick(asked.ATTRIBUTE_WORDS[attribute])
        if self.rng.random() < 0.2:
            question = self.worded(self.pick(asked.ATTRIBUTE_ADVICE_QUESTIONS), attribute=word)
            return question, self.speaker.attribute_advice(attribute)
        question = self.pick(asked.ATTRIBUTE_QUESTIONS)
        if self.rng.random() < 0.35:  # the fields of a report
            question, word = "Analyze the {attribute} of this image.", attribute
        return self.worded(question, attribute=word), self.speaker.analysis(attribute)

    def unknown(self) -> Turn:
        """Return a question that nobody taught an answer to."""
        topic = self.pick(tuple(UNKNOWN))
        return self.worded(self.pick(asked.UNKNOWN_QUESTIONS[topic])), UNKNOWN[topic]

    def kinds(self) -> dict[str, tuple[float, Callable[[], Turn]]]:
        """Return each kind of question with how often it comes."""
        s = self.speaker

        def of(options: Sequence[str], answer: Callable[[], str]) -> Callable[[], Turn]:
            return lambda: (self.worded(self.pick(options)), answer())

        return {
            "critique": (0.2, of(asked.CRITIQUE_QUESTIONS, s.critique)),
            "sentence": (0.03, of(asked.SENTENCE_QUESTIONS, s.opening)),
            "word": (0.02, of(asked.WORD_QUESTIONS, lambda: IN_A_WORD[s.band])),
            "number": (0.03, of(asked.NUMBER_QUESTIONS, s.number)),
            "good": (0.04, of((*asked.GOOD_QUESTIONS, *asked.KEEP_QUESTIONS), s.is_good)),
            "bad": (0.02, of((*asked.BAD_QUESTIONS, *asked.DROP_QUESTIONS), lambda: s.is_good(when_good=False))),
            "again": (0.02, of(asked.AGAIN_QUESTIONS, s.again)),
            "wrong": (0.05, of(asked.WRONG_QUESTIONS, s.wrong)),
            "main": (0.03, of(asked.MAIN_QUESTIONS, s.main)),
            "has fault": (0.015, of(asked.HAS_FAULT_QUESTIONS, lambda: "Yes." if s.faults else "No.")),
            "advice": (0.07, of(asked.ADVICE_QUESTIONS, s.advice)),
            "praise": (0.05, of(asked.PRAISE_QUESTIONS, s.strengths)),
            "any good": (0.015, of(asked.ANY_GOOD_QUESTIONS, s.strengths)),
            "attribute": (0.13, self.attribute),
            "unknown": (0.12, self.unknown),
            "yes/no": (0.06, self.yes_no),
            "attribute yes/no": (0.05, self.attribute_yes_no),
            "choice": (0.03, self.choice),
            "greeting": (0.01, of(asked.HELLO_QUESTIONS, lambda: GREETING)),
            "thanks": (0.01, of(asked.THANKS_QUESTIONS, lambda: THANKS)),
            "itself": (0.01, of(asked.SELF_QUESTIONS, lambda: ABOUT_ITSELF)),
        }

    def turn(self) -> Turn:
        """Return one question, of a kind drawn at random, with its answer."""
        shares, makers = zip(*self.kinds().values(), strict=True)
        return makers[int(self.rng.choice(len(makers), p=np.array(shares) / sum(shares)))]()

    def later(self) -> Turn:
        """Return a question that follows another."""
        draw = self.rng.random()
        if draw < 0.25:
            return self.worded(self.pick(asked.WHY_QUESTIONS)), self.speaker.why()
        if draw < 0.35:
            return self.worded(self.pick(asked.MORE_QUESTIONS)), self.speaker.more()
        return self.turn()


def drill(judgement: Judgement, rng: np.random.Generator, n_choices: int = 1) -> list[Turn]:
    """Return short questions, each a talk of its own, that nobody can answer who has not looked.

    Half of the yes/no questions are about what is there: drawn at random, nearly all answers would be no.
    Of multiple choice questions there are `n_choices`.
    """
    partner = Partner(judgement, rng)
    kinds = partner.kinds()
    return [
        partner.yes_no(there=True), partner.yes_no(there=False), partner.attribute_yes_no(),
        *(partner.choice() for _ in range(n_choices)),
        kinds[partner.pick(("wrong", "main", "good", "bad", "number"))][1](),
    ]  # fmt: skip


def conversation(judgement: Judgement, rng: np.random.Generator) -> list[Turn]:
    """Return one to three turns about a photograph."""
    partner = Partner(judgement, rng)
    n_more = int(rng.choice(3, p=(0.6, 0.2, 0.2)))
    return [partner.turn(), *(partner.later() for _ in range(n_more))]
