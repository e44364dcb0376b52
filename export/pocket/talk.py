"""Draw questions about a judgement, as people ask them, with their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import questions as asked
from .language import Speaker, Turn, choose
from .phrases import ABOUT_ITSELF, ATTRIBUTES, GREETING, IN_A_WORD, NAMES, THANKS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .judgement import Judgement


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
        names = {f: name.capitalize() for f, name in {**NAMES, "none": "no clear fault"}.items()}
        return self.options(self.pick(asked.CHOICE_QUESTIONS), [names[str(o)] for o in options], names[right])

    def options(self, question: str, texts: Sequence[str], right: str, *, shuffle: bool = True) -> Turn:
        """Return a question with options in one of the forms that people write, and the right one or its letter.

        An answer that is none of the options is returned as it is.
        """
        ordered = [str(text) for text in (self.rng.permutation(list(texts)) if shuffle else texts)]
        form = asked.OPTION_FORMS[0] if self.rng.random() < 0.6 else self.pick(asked.OPTION_FORMS)
        lines = [form.format(letter=letter, text=text) for letter, text in zip("ABCD", ordered, strict=False)]
        end, short = asked.CHOICE_ENDS[int(self.rng.integers(len(asked.CHOICE_ENDS)))]
        asks = "\n".join([self.worded(question) + self.pick(asked.CHOOSE), *lines, end])
        if right not in ordered:
            return asks, right
        at = ordered.index(right)
        return asks, "ABCD"[at] if short or form != asked.OPTION_FORMS[0] else lines[at]

    def level_choice(self) -> Turn:
        """Return a multiple choice question about the quality or an attribute, and its answer.

        Never in the order of the question that is scored, whose answer is a distribution.
        """
        name = self.pick(("quality", "aesthetic quality", *ATTRIBUTES))
        score = self.speaker.attributes.get(name, self.speaker.quality)
        levels = asked.LEVEL_OPTIONS[int(self.rng.integers(len(asked.LEVEL_OPTIONS)))]
        if name == "noise":
            levels = ("Little", "Some", "Much")
        orders = [[levels[k] for k in order] for order in ((2, 1, 0), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0))]
        question = self.pick(asked.LEVEL_QUESTIONS).replace("{attribute}", name)
        return self.options(question, orders[int(self.rng.integers(len(orders)))],
                            choose(levels[::-1], score), shuffle=False)  # fmt: skip

    def yes_no_choice(self) -> Turn:
        """Return a question about a fault or an attribute with the options yes and no, and its answer."""
        if self.rng.random() < 0.5:
            question, answer = self.yes_no(there=bool(self.rng.random() < 0.5))
        else:
            question, answer = self.attribute_yes_no()
        return self.options(question, ("Yes", "No"), answer.rstrip("."))

    def unknown_choice(self) -> Turn:
        """Return a multiple choice question that nobody taught an answer to."""
        topic = self.pick(tuple(asked.UNKNOWN_CHOICES))
        questions, texts = asked.UNKNOWN_CHOICES[topic]
        some = [str(text) for text in self.rng.permutation(texts)[: int(self.rng.integers(2, 5))]]
        return self.options(self.pick(questions), some, UNKNOWN[topic])

    def any_choice(self) -> Turn:
        """Return a multiple choice question of any kind: every second one is about the main fault."""
        kinds = (self.choice, self.level_choice, self.yes_no_choice, self.unknown_choice)
        return kinds[int(self.rng.choice(4, p=(0.5, 0.2, 0.15, 0.15)))]()

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
            "choice": (0.03, self.any_choice),
            "why": (0.02, of(asked.WHY_QUESTIONS, s.why)),
            "more": (0.01, of(asked.MORE_QUESTIONS, s.more)),
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
        *(partner.any_choice() for _ in range(n_choices)),
        kinds[partner.pick(("wrong", "main", "good", "bad", "number"))][1](),
    ]  # fmt: skip


def conversation(judgement: Judgement, rng: np.random.Generator) -> list[Turn]:
    """Return one to three turns about a photograph."""
    partner = Partner(judgement, rng)
    n_more = int(rng.choice(3, p=(0.6, 0.2, 0.2)))
    return [partner.turn(), *(partner.later() for _ in range(n_more))]
