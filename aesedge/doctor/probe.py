"""What the proof asks of every photo: the likelihood of a fixed text, and the score."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from aesedge.doctor.difference import Difference, between_ratings, between_texts
from aesedge.engine.likelihood import Likelihood, begin_reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.engine.results import Rating
    from aesedge.scheduling.requests import Job
    from aesedge.scheduling.task import JobFuture

TEXT = (
    "This image has medium aesthetic quality. The light is soft, the colors are calm and the composition is balanced."
)
N_SAID = 12
"""Tokens of a conversation's first answer."""


class Seen(NamedTuple):
    """A reading of a photo."""

    text: Likelihood
    rating: Rating


def between(one: Seen, other: Seen) -> Difference:
    """Return how far two readings of a photo are apart."""
    return between_texts(one.text, other.text) | between_ratings(one.rating, other.rating)


def prompt(model: Model, question: str | None = None) -> list[int]:
    """Return the tokens of a question, by default the one that the text answers."""
    return model.internals.question_tokens(question or model.manifest.prompt.critique)


def score_prompt(model: Model) -> list[int]:
    """Return the tokens of the score question."""
    return prompt(model, model.manifest.rating.question)


def second_turn(model: Model, said: Sequence[int]) -> list[int]:
    """Return all tokens of a conversation up to its second answer: score question, what was said, text question."""
    closing = [model.internals.llm.eos] if model.internals.template.eos_between_turns else []
    later = model.internals.template.later_turn(model.manifest.prompt.critique)
    return [*score_prompt(model), *said, *closing, *model.internals.llm.tokenize(later)]


def answer(model: Model) -> list[int]:
    """Return the tokens of the text."""
    return model.internals.llm.tokenize(TEXT)


def probe_photo(model: Model, photo: Photo) -> Seen:
    """Read text and score."""
    return Seen(read(model, photo), photo.score())


def read(model: Model, photo: Photo) -> Likelihood:
    """Read the text alone."""
    return begin(model, photo, [prompt(model)]).wait()[0]


def begin(model: Model, photo: Photo, prompts: Sequence[Sequence[int]]) -> JobFuture[list[Likelihood]]:
    """Begin to read the text after each of several prompts, all at once."""
    return begin_reading(model, photo, prompts, answer(model))


def evict_others(model: Model, photo: Photo) -> None:
    """Acquire all cells beside a photo, so that everything else must leave the KV cache."""
    sequences, image = model.internals.sequences, photo.internals.image
    n_cells = sequences.n_cells - image.n_rows - (sequences.n_prefix if image.restore is not None else 0)

    def work() -> Job[None]:
        yield from sequences.acquire(image, n_cells=n_cells)

    model.internals.scheduler.submit(work()).wait()


@contextmanager
def caught_warnings() -> Iterator[list[str]]:
    """Collect aesedge's warnings in a list instead of showing them."""
    log, messages, handler = logging.getLogger("aesedge"), list[str](), logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.WARNING)
    try:
        yield messages
    finally:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])
