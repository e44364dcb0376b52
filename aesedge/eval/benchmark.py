"""Ask a bundle AesBench's questions, and count the right answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aesedge.engine.generation import rate_all
from aesedge.engine.rating import label_tokens
from aesedge.errors import AesedgeError, ContextFullError
from aesedge.eval.aesbench import LEVELS, matched_letter
from aesedge.eval.item_log import ItemLog
from aesedge.eval.ratings import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.eval.aesbench import Benchmark, Item

_MOST_TOKENS = 64
_MOST_TOKENS_OF_TEXT = 512  # the official scripts' limit, for interpretations


@dataclass(frozen=True)
class Reply:
    """What a bundle answers to one question."""

    item: Item
    response: str
    probabilities: dict[str, float]
    """Letter to its probability as the next word, 0..1; empty for interpretation."""
    is_new: bool = True
    """Whether it was asked now, and not by an earlier run."""

    @property
    def key(self) -> str:
        """Name of its question."""
        return self.item.key

    @property
    def is_right_by_text(self) -> bool:
        """Whether the text means the right option; what is unclear is wrong."""
        return self.by_text == self.item.answer

    @property
    def is_right_by_probability(self) -> bool:
        """Whether the most probable letter is the right one."""
        return self.by_probability == self.item.answer

    @property
    def by_text(self) -> str | None:
        """The option that the text means, by VLMEvalKit's rules."""
        return matched_letter(self.response, self.item.options)

    @property
    def by_probability(self) -> str:
        """The most probable letter."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass
class Accuracy:
    """Right answers among those whose answer is known."""

    n: int = 0
    n_by_text: int = 0
    n_by_probability: int = 0
    n_unclear: int = 0
    """Texts that mean no option clearly: they count as wrong."""

    def add(self, reply: Reply) -> None:
        """Count one."""
        self.n += 1
        self.n_by_text += reply.is_right_by_text
        self.n_by_probability += reply.is_right_by_probability
        self.n_unclear += reply.by_text is None


@dataclass
class Scores:
    """Accuracy by task, dimension and type of question; and the assessment in detail."""

    groups: dict[tuple[str, str], Accuracy] = field(default_factory=dict)
    """(task, dimension or type of question; empty for the whole task) to its accuracy."""
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(right level, answered level) to how often, by probability."""
    majority: float = 0.0
    """Accuracy of the assessment's most frequent level."""


def ask_all(
    model: Model, benchmark: Benchmark, log: Path | None, problems: Callable[[str, AesedgeError], None]
) -> Iterator[Reply]:
    """Ask every question, those that an earlier run has not asked; all of one image over one prefill.

    Args:
        model: the loaded bundle.
        benchmark: the questions.
        log: where each reply is kept as it comes; None keeps none.
        problems: called with the name and the error of each image that cannot be read.

    Raises:
        UsageError: the log is one of other settings.
    """
    with ItemLog(log, settings_of(model), tuple[str, dict[str, float]]) as items:
        new: dict[str, list[Item]] = {}
        for item in benchmark.items:
            record = items.done.get(item.key)
            if record is None:
                new.setdefault(item.image, []).append(item)
            else:
                yield Reply(item, *record, is_new=False)
        for image, of_image in new.items():
            try:
                with model.look(benchmark.source(image), name=image) as photo:
                    replies = _ask(model, photo, of_image, problems)
            except AesedgeError as error:
                problems(image, error)
                continue
            for reply in replies:
                items.add(reply.key, (reply.response, reply.probabilities))
                yield reply


def _ask(
    model: Model, photo: Photo, items: Sequence[Item], problems: Callable[[str, AesedgeError], None]
) -> list[Reply]:
    """Ask all questions of an image together; if one does not fit the context, the others are asked without it."""
    try:
        return _ask_together(model, photo, items)
    except ContextFullError as error:
        if len(items) == 1:
            problems(f"{items[0].image}, {items[0].task}", error)
            return []
    return [reply for item in items for reply in _ask(model, photo, [item], problems)]


def _ask_together(model: Model, photo: Photo, items: Sequence[Item]) -> list[Reply]:
    choices = [item for item in items if item.options]
    texts = [item for item in items if not item.options]
    answers = photo.ask_many([item.prompt for item in choices], temperature=0.0, max_tokens=_MOST_TOKENS)
    answers += photo.ask_many([item.prompt for item in texts], temperature=0.0, max_tokens=_MOST_TOKENS_OF_TEXT)
    return [
        Reply(item, answer.text.strip(), _letter_probabilities(model, photo, item) if item.options else {})
        for item, answer in zip([*choices, *texts], answers, strict=True)
    ]


def _letter_probabilities(model: Model, photo: Photo, item: Item) -> dict[str, float]:
    """Return how probable each option's letter is as the first word of the answer, normalised over the letters."""
    parts = model.internals
    labels = label_tokens({x: [x] for x in item.options}, dict.fromkeys(item.options, 0.0), parts.llm.tokenize)
    inside = photo.internals
    job = rate_all(parts.sequences, inside.image, labels, [parts.question_tokens(item.prompt)], inside.recorder)
    (rating,) = parts.scheduler.submit(job).wait()
    return rating.probabilities


def scores_of(replies: Sequence[Reply]) -> Scores:
    """Count the right answers of the replies whose right answer is known."""
    found = Scores()
    levels: Counter[str] = Counter()
    for reply in replies:
        item = reply.item
        if item.answer is None or not item.options:
            continue
        for group in dict.fromkeys(("", item.dimension, item.question_type)):
            found.groups.setdefault((item.task, group), Accuracy()).add(reply)
        if item.task == "AesA1":
            right, said = item.options[item.answer], item.options[reply.by_probability]
            levels[right] += 1
            found.confusion[right.capitalize(), said.capitalize()] += 1
    if levels:
        found.majority = max(levels.values()) / levels.total()
    return found


def to_builtins(found: Scores) -> dict[str, Any]:
    """Return the figures for JSON."""
    return {
        "accuracy": [
            {
                "task": task,
                "group": group or None,
                "n": one.n,
                "by_text": one.n_by_text / one.n,
                "by_probability": one.n_by_probability / one.n,
                "unclear": one.n_unclear,
            }
            for (task, group), one in found.groups.items()
        ],
        "assessment": {
            "majority": found.majority,
            "confusion": {right: {said: found.confusion[right, said] for said in LEVELS} for right in LEVELS},
        },
    }
