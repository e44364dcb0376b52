"""Several turns about one photo, each costing only its own words; knows turns, not what they are about."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.reply import Opening, Reply, Writing
from aesedge.result import Timings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.llm import LanguageModel
    from aesedge.prompt import PromptTemplate
    from aesedge.residents import ResidentImage, Residents


class Conversation:
    """Questions and answers that remember each other. Close it, or use ``with``."""

    def __init__(
        self, residents: Residents, image: ResidentImage, llm: LanguageModel, template: PromptTemplate
    ) -> None:
        self._residents = residents
        self._image = image
        self._llm = llm
        self._template = template
        self._tokens: list[int] = []
        """Everything said after the image; what of it is not in the cache is prefilled with the next question."""
        self._seq_id: int | None = None

    def ask(self, question: str, writing: Writing | None = None) -> Reply:
        """Ask the next question; iterate over the reply for its text before the next ``ask``.

        Raises:
            UsageError: the question is empty.
            ContextFullError: while iterating, when the conversation has become too long. It stays as it was.
        """
        if not question.strip():
            raise UsageError("the question is empty")
        reply = Reply(
            self._residents.context,
            lambda: self._turn(question, reply),
            writing or Writing(),
            Timings(),
            time.perf_counter(),
        )
        return reply

    @contextmanager
    def _turn(self, question: str, reply: Reply) -> Iterator[Opening]:
        asked = self._question_tokens(question)
        seq_id, n_base = self._sequence()
        context = self._residents.context
        n_before = context.n_past(seq_id)
        try:
            yield Opening(seq_id, self._tokens[n_before - n_base :] + asked)
        finally:
            if reply.tokens:
                self._tokens += asked + reply.tokens
            else:  # nothing was said, perhaps for lack of room: the conversation is as it was before
                context.truncate(seq_id, n_before)

    def _question_tokens(self, question: str) -> list[int]:
        if not self._tokens:
            return self._llm.tokenize(self._template.after_image(question))
        closing = [self._llm.eos] if self._template.eos_between_turns else []
        return closing + self._llm.tokenize(self._template.later_turn(question))

    def _sequence(self) -> tuple[int, int]:
        """Return the conversation's sequence, and how many positions of it come before the first question."""
        image = self._residents.sequence_of(self._image)
        context = self._residents.context
        if self._seq_id is None:
            (self._seq_id,) = self._residents.take(1)
            context.fork(image, self._seq_id)
        return self._seq_id, context.n_past(image)

    def close(self) -> None:
        """Forget the conversation. Closing twice does nothing."""
        if self._seq_id is not None:
            self._residents.give_back([self._seq_id])
        self._seq_id, self._tokens = None, []

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
