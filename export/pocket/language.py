"""Turn fault strengths into questions and answers in natural English.

It knows strengths and phrases; it does not know pixels or models, and it never says what a picture shows,
because nobody taught it that.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from aesedge_export.questions import OPTIONS

from .impression import MENTIONED, Impression, Strengths, severity
from .looks import DISTURBED_BY
from .phrases import (
    ADVERBS,
    ADVICE,
    ATTRIBUTE_PRAISE,
    ATTRIBUTES,
    CLOSINGS,
    CONTENT,
    DEGREES,
    FAULT_MARKERS,
    GROUPS,
    LOOK_SENTENCES,
    NAMES,
    OPENINGS,
    PRAISE,
    PREDICATES,
    STATEMENTS,
    UNKNOWN,
)
from .questions import (
    ADVICE_QUESTIONS,
    CRITIQUE_QUESTIONS,
    MAIN_QUESTIONS,
    PRAISE_QUESTIONS,
    UNKNOWN_QUESTIONS,
    WRONG_QUESTIONS,
    YES_NO,
)
from .scenes import FLAWS, PLACES

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = ("High", "Medium", "Low")
N_CHOICES = 3
"""Multiple choice questions about a picture that has a fault (one, if it has none): they are the hardest to learn."""
SCORED = ("aesthetic quality", "technical quality", "color and light", "composition", "content")
Turn = tuple[str, str]


def score_question(about: str) -> str:
    """Return AesBench's question with its options, byte for byte, about the whole or one attribute."""
    return f"How is the {about} of this image?{OPTIONS}"


def severity_about(about: str, strengths: Strengths) -> float:
    """Return the severity that the score question about this attribute asks for."""
    if about == "content":  # a picture stays readable long after it has become ugly; a bad frame hides nothing
        return 0.85 * severity({f: s for f, s in strengths.items() if f not in ATTRIBUTES["composition"]})
    return severity(strengths, ATTRIBUTES.get(about))


def label_probabilities(total: float) -> tuple[float, float, float]:
    """Return the probabilities of High, Medium and Low; they move smoothly and monotonically with severity."""
    high = 1 / (1 + math.exp((total - 0.27) / 0.1))
    low = 1 / (1 + math.exp((0.62 - total) / 0.11))
    return high, max(0.0, 1 - high - low), low


def label_of(total: float) -> str:
    """Return the most probable label."""
    return LABELS[int(np.argmax(label_probabilities(total)))]


def mentioned(strengths: Strengths) -> list[str]:
    """Return the faults worth saying, strongest first; flaws of the composition after all others."""
    return sorted((f for f, s in strengths.items() if s >= MENTIONED), key=lambda f: (f in FLAWS, -strengths[f], f))


def named_faults(text: str) -> set[str]:
    """Return the faults that a text names."""
    return {fault for fault, marker in FAULT_MARKERS.items() if marker.search(text)}


@cache
def sentences() -> re.Pattern[str]:
    """Return what matches one sentence of a critique, every word as it was taught."""
    lists = (*OPENINGS.values(), *PRAISE.values(), *LOOK_SENTENCES.values(), *ADVICE.values(), CLOSINGS)
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


def grade(strength: float) -> int:
    """Return 0 for slight, 1 for clear, 2 for severe."""
    return 0 if strength < 0.35 else 1 if strength < 0.65 else 2


@dataclass
class Speaker:
    """Says things about one photograph; the generator decides between phrasings."""

    strengths: Strengths
    rng: np.random.Generator
    looks: Sequence[str] = ()
    """What plainly shows in the colors (see looks.py)."""
    total: float | None = None
    """How spoilt the photograph is altogether; by default what its faults make."""

    def pick_near(self, options: Sequence[str], place: float) -> str:
        """Pick the phrasing that belongs to a place between 0 and 1, with some play: other photos, other words."""
        at = int(place * len(options) + 0.5 * self.rng.standard_normal())
        return options[min(len(options) - 1, max(0, at))]

    def seen(self) -> list[str]:
        """Return sentences about looks that no fault has made."""
        own = [k for k in self.looks if not self.disturbed(k)]
        return [self.pick(LOOK_SENTENCES[k]) for k in self.rng.permutation(own)] if own else []

    def disturbed(self, look: str) -> bool:
        """Tell whether a look may be the effect of a fault."""
        return any(self.strengths.get(f, 0) > 0 for f in DISTURBED_BY[look])

    def pick(self, options: Sequence[str]) -> str:
        """Pick one phrasing."""
        return options[int(self.rng.integers(len(options)))]

    def adverb(self, fault: str) -> str:
        """Return an adverb of the fault's grade."""
        return self.pick(ADVERBS[grade(self.strengths[fault])])

    def statement(self, fault: str) -> str:
        """Return a sentence about a fault."""
        degree = self.pick(DEGREES[grade(self.strengths[fault])])
        chosen = self.pick_near(STATEMENTS[fault], self.strengths[fault])
        return chosen.replace("{a}", self.adverb(fault)).replace("{b}", degree)

    def predicate(self, fault: str) -> str:
        """Return what follows "It is"."""
        return f"{self.adverb(fault)} {self.pick(PREDICATES[fault])}"

    def praise(self, groups: Sequence[str] | None = None) -> list[str]:
        """Return praise for what no fault touches, in random order."""
        sound = [g for g in groups or GROUPS if not any(self.strengths.get(f, 0) > 0 for f in GROUPS[g])]
        return [self.pick(PRAISE[g]) for g in self.rng.permutation(sound)] if sound else []

    def critique(self) -> str:
        """Return two to four sentences: verdict, faults, what works, what to do."""
        faults = mentioned(self.strengths)
        verdict = label_of(severity(self.strengths) if self.total is None else self.total)
        if not faults:
            verdict = "High"
        elif verdict == "High":
            verdict = "Medium"
        sentences = [self.pick(OPENINGS[verdict]), *(self.statement(f) for f in faults[:2])]
        if not faults:
            sentences += [*[*self.seen()[:1], *self.praise()][:2], self.pick(CLOSINGS)]
        else:
            if len(faults) == 1 and verdict == "Medium":
                sentences += [*self.seen(), *self.praise()][:1]
            sentences.append(self.pick(ADVICE[faults[0]]))
        return " ".join(sentences[:4])

    def analysis(self, about: str) -> str:
        """Return an answer to "Analyze the ... of this image."."""
        if about == "content":
            return f"{self.pick(CONTENT[label_of(severity_about(about, self.strengths))])} {self.pick(UNKNOWN)}"
        faults = [f for f in mentioned(self.strengths) if f in ATTRIBUTES[about]]
        praise = self.praise(ATTRIBUTE_PRAISE[about])
        if about == "color and light":
            colors = Speaker(self.strengths, self.rng, [k for k in self.looks if k not in PLACES])
            praise = [*colors.seen()[:1], *praise]
        if about == "composition":
            own = [k for k in self.looks if k in PLACES and not self.disturbed(k)]
            told = [self.pick(LOOK_SENTENCES[k]) for k in own] or ["Of the arrangement I can't tell more."]
            praise = [*praise[:1], *told]
        if not faults:
            verdict = "good" if severity_about(about, self.strengths) < 0.2 else "fair"
            return " ".join([f"The {about} is {verdict}.", *praise[:2]])
        sentences = [self.statement(f) for f in faults[:2]] + [self.pick(ADVICE[faults[0]])]
        return " ".join(sentences[:3])

    def wrong(self) -> str:
        """Answer "What is wrong with this photo?"."""
        faults = mentioned(self.strengths)
        if not faults:
            return self.pick(("Nothing is obviously wrong.", "I see no clear fault.", "Nothing important."))
        return f"It is {' and '.join(self.predicate(f) for f in faults[:2])}."

    def main(self) -> str:
        """Name the strongest fault."""
        faults = mentioned(self.strengths)
        if not faults:
            return self.pick(("I see no clear fault.", "There is no clear fault."))
        return "It is out of focus." if faults[0] == "defocus" else f"{NAMES[faults[0]].capitalize()}."

    def advice(self) -> str:
        """Say what to do better."""
        faults = mentioned(self.strengths)
        return " ".join(self.pick(ADVICE[f]) for f in faults[:2]) or self.pick(CLOSINGS)

    def strengths_of_photo(self) -> str:
        """Say what works."""
        return " ".join(self.praise()[:2]) or "Not much: the faults outweigh the rest."

    def yes_no(self, question: str) -> str:
        """Answer a question about one kind of fault with yes or no."""
        faults, when_there = YES_NO[question]
        strongest = max(faults, key=lambda f: self.strengths.get(f, 0.0))
        there = self.strengths.get(strongest, 0.0) >= MENTIONED
        word = "Yes" if there == when_there else "No"
        if there and self.rng.random() < 0.25:
            return f"{word}, it is {self.predicate(strongest)}."
        return f"{word}."

    def question(self, *, there: bool) -> Turn:
        """Return a yes/no question about a fault that is there, or about any that is not, with its answer."""
        named = mentioned(self.strengths)
        fitting = [q for q, (faults, _) in YES_NO.items() if there == any(f in named for f in faults)]
        asked = self.pick(fitting or tuple(YES_NO))
        return asked, self.yes_no(asked)

    def choice(self) -> Turn:
        """Return a multiple choice question about the main fault, with letters, and its answer."""
        faults = mentioned(self.strengths)
        right = faults[0] if faults else "none"
        others = [f for f in (*NAMES, "none") if f not in self.strengths and f != right]
        options = [right, *self.rng.permutation(others)[: int(self.rng.integers(1, 4))]]
        names = {**NAMES, "none": "no clear fault", "defocus": "wrong focus"}
        lines = [
            f"{letter}) {names[o].capitalize()}"
            for letter, o in zip("ABCD", self.rng.permutation(options), strict=False)
        ]
        answer = next(line for line in lines if line.endswith(names[right].capitalize()))
        question = "Which fault does this image have? Choose one from the following options:\n" + "\n".join(lines)
        return question + "\nYou should output a correct option without explanation.", answer

    def why(self) -> str:
        """Return the reason behind a verdict: "Why?" as a later turn."""
        faults = mentioned(self.strengths)
        return " ".join(self.statement(f) for f in faults[:2]) or " ".join(self.praise()[:2])


def turn(speaker: Speaker) -> Turn:
    """Return one question, of a kind drawn at random, with its answer."""
    rng, pick = speaker.rng, speaker.pick
    kind = rng.choice(9, p=(0.34, 0.14, 0.09, 0.06, 0.09, 0.04, 0.04, 0.13, 0.07))
    if kind == 0:
        return pick(CRITIQUE_QUESTIONS), speaker.critique()
    if kind == 1:
        about = pick(SCORED[1:])
        tail = pick((" of this image.", " of this image.", ".", " of this photo."))
        return f"Analyze the {about}{tail}", speaker.analysis(about)
    if kind == 7:
        question = pick(tuple(YES_NO))
        return question, speaker.yes_no(question)
    if kind == 8:
        return speaker.choice()
    questions, answer = (
        (WRONG_QUESTIONS, speaker.wrong), (MAIN_QUESTIONS, speaker.main), (ADVICE_QUESTIONS, speaker.advice),
        (PRAISE_QUESTIONS, speaker.strengths_of_photo), (UNKNOWN_QUESTIONS, lambda: pick(UNKNOWN)),
    )[kind - 2]  # fmt: skip
    return pick(questions), answer()


def drill(seen: Impression, rng: np.random.Generator) -> list[Turn]:
    """Return short questions, each a talk of its own, that nobody can answer who has not looked.

    They are: yes or no about what is there, yes or no about what is not, multiple choices, what is wrong.

    Half of the yes/no questions are about what is there: drawn at random, nearly all answers would be no.
    """
    speaker = Speaker(seen.faults, rng, (), seen.total)
    wrong = (WRONG_QUESTIONS, speaker.wrong) if rng.random() < 0.5 else (MAIN_QUESTIONS, speaker.main)
    return [
        speaker.question(there=True),
        speaker.question(there=False),
        *(speaker.choice() for _ in range(N_CHOICES if seen.faults else 1)),
        (speaker.pick(wrong[0]), wrong[1]()),
    ]


def conversation(seen: Impression, rng: np.random.Generator, looks: Sequence[str] = ()) -> list[Turn]:
    """Return one to three turns about a photograph with these faults and looks."""
    speaker = Speaker(seen.faults, rng, looks, seen.total)
    turns = [turn(speaker)]
    n_more = int(rng.choice(3, p=(0.75, 0.18, 0.07)))
    turns.extend(("Why?", speaker.why()) if rng.random() < 0.3 else turn(speaker) for _ in range(n_more))
    return turns
