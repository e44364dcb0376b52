"""Several turns about one photo, each costing only its own words; knows turns, not what they are about."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.engine.completion import Reply, Writing
from aesedge.engine.generation import Started, acquire, forced, sampler_of, write
from aesedge.engine.results import Timings
from aesedge.errors import UsageError
from aesedge.scheduling.requests import Job, WaitFor
from aesedge.scheduling.sequences import CachedSequence
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.engine.model import Model
    from aesedge.scheduling.scheduler import JobFuture
    from aesedge.scheduling.sequences import CachedImage


@dataclass(frozen=True)
class Turn:
    """A question, and what the model answered."""

    question: str
    answer: tuple[int, ...]
    """Tokens, the closing one not among them."""
    text: str


class Conversation(Closing):
    """Questions and answers that remember each other. Close it, or use ``with``.

    When it becomes too long for the context, the oldest turns are forgotten, never the image: what is left is
    prefilled once, after the image that is there.
    """

    def __init__(self, model: Model, image: CachedImage) -> None:
        self._model = model
        self._sequences = model.sequences
        self._image = image
        self._turns: list[Turn] = []
        self._resident = CachedSequence()
        self._inside: list[int] = []
        """The tokens after the image that the conversation's sequence holds."""
        self._busy = False

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said and is remembered, the oldest first."""
        return tuple(self._turns)

    def ask(self, question: str, writing: Writing | None = None) -> Reply:
        """Ask the next question; the reply is read, iterated or awaited like that of :meth:`Photo.ask`.

        Raises:
            UsageError: the question is empty.
            ContextFullError: while reading, when the question alone does not fit. The conversation stays as it was.
        """
        if not question.strip():
            raise UsageError("the question is empty")
        chosen = writing or Writing()

        def submit(reply: Reply) -> JobFuture[None]:
            return self._model.scheduler.submit(self._turn(question, chosen, reply), preemptible=True)

        return Reply(submit, chosen, Timings(), time.perf_counter())

    def undo(self) -> str:
        """Forget the last turn; returns its question. The next one costs only its own words.

        Raises:
            UsageError: nothing was said yet.
        """
        if not self._turns:
            raise UsageError("nothing was said yet that could be taken back")
        return self._turns.pop().question

    def retry(self, writing: Writing | None = None) -> Reply:
        """Take the last turn back and ask its question again, perhaps to be written otherwise.

        Raises:
            UsageError: nothing was said yet.
        """
        return self.ask(self.undo(), writing)

    def forced(self, question: str, answer: Sequence[int]) -> Job[npt.NDArray[np.float32]]:
        """Ask the next question and give the answer oneself; nothing of it is remembered.

        Returns:
            The logits from which each token of the answer would have been chosen, float32 [n, n_vocab].
        """
        while self._busy:
            yield WaitFor(lambda: not self._busy)
        self._busy = True
        try:
            _, tokens = self._fitting(question, len(answer))
            seq_id = yield from self._sequence(len(tokens) + len(answer), Timings())
            with self._sequences.pinned(self._image), self._sequences.pinned(self._resident):
                n_base = self._sequences.n_positions(self._image)
                n_same = _n_in_common(self._inside, tokens[:-1])
                self._sequences.context.truncate(seq_id, n_base + n_same)
                self._inside = tokens[:n_same]
                logits: npt.NDArray[np.float32] = yield forced(seq_id, tokens[n_same:], answer)
        finally:
            self._busy = False
        return logits

    def _turn(self, question: str, writing: Writing, reply: Reply) -> Job[None]:
        while self._busy:
            yield WaitFor(lambda: not self._busy)
        self._busy = True
        reply.begin()
        try:
            turns, tokens = self._fitting(question, writing.max_tokens)
            with sampler_of(self._model.llm, writing) as sampler:
                begun = sampler, sampler.begin()
                seq_id = yield from self._sequence(
                    len(tokens) + min(len(begun[1].tokens), writing.max_tokens) + 1, reply.timings
                )
                with self._sequences.pinned(self._image), self._sequences.pinned(self._resident):
                    yield from self._answer(seq_id, turns, question, tokens, begun, writing, reply)
        finally:
            self._busy = False
            reply.account()

    def _answer(
        self,
        seq_id: int,
        turns: list[Turn],
        question: str,
        tokens: list[int],
        begun: Started,
        writing: Writing,
        reply: Reply,
    ) -> Job[None]:
        sequences, context = self._sequences, self._sequences.context
        n_base = sequences.n_positions(self._image)
        n_same = _n_in_common(self._inside, tokens[:-1])  # at least one token is decoded: its logits are not kept
        context.truncate(seq_id, n_base + n_same)
        reply.timings.n_prompt += n_base + len(tokens)
        reply.timings.n_reused += n_base + n_same
        try:
            yield from write(sequences, seq_id, tokens[n_same:], begun, writing, reply)
        finally:
            if context.is_open and self._resident.seq_id is not None:
                self._inside = [*tokens, *reply.tokens][: context.n_past(seq_id) - n_base]
            if reply.tokens:
                self._turns = [*turns, Turn(question, tuple(reply.tokens), reply.text)]

    def _sequence(self, n_cells: int, timings: Timings) -> Job[int]:
        """Return the conversation's own sequence, with room for so many cells; it may have to be built anew."""
        sequences, own = self._sequences, self._resident
        if own.is_resident():
            seq_ids = yield from acquire(sequences, self._image, timings, n_cells=n_cells)
        if not own.is_resident():  # it may have left while it waited
            seq_ids = yield from acquire(sequences, self._image, timings, n_forks=1, n_cells=n_cells)
            sequences.attach(own, seq_ids[0])
            self._inside = []
        return own.seq_id or 0

    def _fitting(self, question: str, n_answer: int) -> tuple[list[Turn], list[int]]:
        """Return the turns that are still remembered, and the tokens of them and of the question.

        If room for an answer would be lacking, so many of the oldest go that half of the context is free: forgetting
        costs a prefill of what is left, and should be rare.
        """
        context = self._sequences.context
        most = min(self._sequences.n_cells - self._image.n_rows, context.model.n_ctx_train - self._sequences.n_prefix)
        turns, tokens = self._turns, self._tokens(self._turns, question)
        if len(tokens) + min(n_answer, most // 4) > most:
            while turns and len(tokens) > most // 2:
                turns = turns[1:]
                tokens = self._tokens(turns, question)
        return turns, tokens

    def _tokens(self, turns: Sequence[Turn], question: str) -> list[int]:
        """Return everything after the image: the turns, and the question."""
        llm, template = self._model.llm, self._model.template
        closing = [llm.eos] if template.eos_between_turns else []
        tokens: list[int] = []
        for i, asked in enumerate([*(turn.question for turn in turns), question]):
            tokens += [*closing, *llm.tokenize(template.later_turn(asked))] if i else self._model.question_tokens(asked)
            if i < len(turns):
                tokens += turns[i].answer
        return tokens

    def close(self) -> None:
        """Forget the conversation. Closing twice does nothing."""
        self._turns = []
        with suppress(UsageError):  # the model was closed: nothing is there any more
            self._model.scheduler.call(lambda: self._sequences.evict(self._resident)).wait()


def _n_in_common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many elements two sequences have in common at their beginnings."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
