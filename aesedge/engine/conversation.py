"""Conversations about one photo: each turn prefills only its own tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.engine.answer import AnswerStream
from aesedge.engine.completion import Completion
from aesedge.engine.generation import Started, acquire, n_cells_to_start, sampler_of, teacher_forced, write
from aesedge.engine.generation_options import GenerationOptions, with_keywords
from aesedge.engine.timings import TimingsRecorder
from aesedge.errors import UsageError
from aesedge.scheduling.kv_cache import CachedSequence
from aesedge.scheduling.requests import Job, WaitFor
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    from aesedge.engine.answer import Answer
    from aesedge.engine.generation_options import GenerationKeywords
    from aesedge.engine.internals import Internals
    from aesedge.scheduling.kv_cache import CachedImage


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    text: str
    tokens: tuple[int, ...]
    """Of the answer, without the end-of-sequence token."""


class Conversation(Closing):
    """Questions and answers that remember each other, created by :meth:`Photo.conversation`. Close it, or use ``with``.

    When it becomes too long for the context, the oldest turns are forgotten, never the image: the others are
    prefilled again, once.
    """

    def __init__(self, internals: Internals, image: CachedImage) -> None:
        self._internals = internals
        self._sequences = internals.sequences
        self._image = image
        self._turns: list[Turn] = []
        self._cached = CachedSequence()
        self._cached_tokens: list[int] = []
        """The tokens after the image that the conversation's sequence holds."""
        self._busy = False

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns that are remembered, oldest first."""
        return tuple(self._turns)

    def ask(
        self, question: str, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]
    ) -> Answer:
        """Ask the next question and wait for the answer; options as in :meth:`Photo.ask`.

        Raises:
            UsageError: the question is empty, or an option is wrong.
            ContextFullError: the question alone does not fit. The conversation stays as it was.
        """
        return self.stream(question, options, **keywords).read()

    def stream(
        self, question: str, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]
    ) -> AnswerStream:
        """Ask the next question and iterate over the answer while it is generated; see :meth:`ask`."""
        chosen = with_keywords(options, keywords)
        check_question(question)
        started = time.perf_counter()
        out = Completion(chosen, TimingsRecorder(started), started)
        return AnswerStream(out, self._internals.scheduler.submit(self.job(question, out), preemptible=True))

    def job(self, question: str, out: Completion) -> Job[None]:
        """Return the job that asks the next question, for readers of their own; for aesedge's own commands."""
        return self._turn(question, out)

    def restart(self, turns: Sequence[tuple[str, str]]) -> None:
        """Remember other turns, by their texts; what the KV cache holds of them is not computed again.

        Args:
            turns: question and answer of each. Not while a question is being answered.
        """
        llm = self._internals.llm
        self._turns = [Turn(question, text, tuple(llm.tokenize(text))) for question, text in turns]

    def undo(self) -> str:
        """Forget the last turn and return its question.

        Raises:
            UsageError: there is none.
        """
        if not self._turns:
            raise UsageError("nothing was said yet that could be taken back")
        return self._turns.pop().question

    def retry(self, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]) -> Answer:
        """Forget the last answer and ask its question again.

        Raises:
            UsageError: there is none, or an option is wrong.
        """
        chosen = with_keywords(options, keywords)
        return self.ask(self.undo(), chosen)

    def teacher_forced(self, question: str, answer: Sequence[int]) -> Job[npt.NDArray[np.float32]]:
        """Return the job that asks the next question with a given answer; nothing of it is remembered.

        Its result is the logits from which each token of the answer would have been chosen, float32 [n, n_vocab].
        """
        yield from self._begin()
        try:
            _, tokens = self._fitting(question, len(answer))
            seq_id = yield from self._acquire(len(tokens) + len(answer), TimingsRecorder(time.perf_counter()))
            with self._sequences.pinned(self._image), self._sequences.pinned(self._cached):
                n_same = self._truncate(seq_id, tokens)
                self._cached_tokens = tokens[:n_same]
                logits: npt.NDArray[np.float32] = yield teacher_forced(seq_id, tokens[n_same:], answer)
        finally:
            self._busy = False
        return logits

    def _begin(self) -> Job[None]:
        """Wait for the turn before, and begin one."""
        while self._busy:
            yield WaitFor(lambda: not self._busy)
        self._busy = True

    def _turn(self, question: str, out: Completion) -> Job[None]:
        yield from self._begin()
        out.begin()
        try:
            turns, tokens = self._fitting(question, out.options.max_tokens)
            with sampler_of(self._internals.llm, out.options) as sampler:
                started = sampler, sampler.begin()
                n_cells = n_cells_to_start(tokens, started[1], out.options)
                seq_id = yield from self._acquire(n_cells, out.recorder)
                with self._sequences.pinned(self._image), self._sequences.pinned(self._cached):
                    yield from self._answer(seq_id, tokens, started, out)
        finally:
            self._busy = False
            if out.tokens:
                self._turns = [*turns, Turn(question, out.text, tuple(out.tokens))]
            out.account()

    def _answer(self, seq_id: int, tokens: list[int], started: Started, out: Completion) -> Job[None]:
        sequences, context = self._sequences, self._sequences.context
        n_base = sequences.n_positions(self._image)
        n_same = self._truncate(seq_id, tokens)
        out.prompt(n_base + len(tokens), n_base + n_same)
        try:
            yield from write(sequences, seq_id, tokens[n_same:], started, out)
        finally:
            if context.is_open and self._cached.seq_id is not None:
                self._cached_tokens = [*tokens, *out.tokens][: context.n_past(seq_id) - n_base]

    def _truncate(self, seq_id: int, tokens: Sequence[int]) -> int:
        """Cut the conversation's sequence where it differs from tokens; return how many of them it still holds."""
        n_same = _n_in_common(self._cached_tokens, tokens[:-1])  # the last one is decoded: its logits are not stored
        self._sequences.context.truncate(seq_id, self._sequences.n_positions(self._image) + n_same)
        return n_same

    def _acquire(self, n_cells: int, recorder: TimingsRecorder) -> Job[int]:
        """Return the conversation's sequence, with cells reserved for it; it is created again where it was evicted."""
        sequences, own = self._sequences, self._cached
        if own.is_resident():
            yield from acquire(sequences, self._image, recorder, n_cells=n_cells)
        if not own.is_resident():  # it may have been evicted during the wait
            seq_ids = yield from acquire(sequences, self._image, recorder, n_forks=1, n_cells=n_cells)
            sequences.attach(own, seq_ids[0])
            self._cached_tokens = []
        return own.seq_id or 0

    def _fitting(self, question: str, n_answer: int) -> tuple[list[Turn], list[int]]:
        """Return the turns that can be remembered, and the tokens of them and of the question.

        Where the answer would not fit, the oldest turns are forgotten until half of the context is free: forgetting
        costs a prefill of the others, and should be rare.
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
        """Return the tokens after the image: the turns, and the question."""
        llm, template = self._internals.llm, self._internals.template
        closing = [llm.eos] if template.eos_between_turns else []
        tokens: list[int] = []
        for i, asked in enumerate([*(turn.question for turn in turns), question]):
            tokens += (
                [*closing, *llm.tokenize(template.later_turn(asked))] if i else self._internals.question_tokens(asked)
            )
            if i < len(turns):
                tokens += turns[i].tokens
        return tokens

    def is_resident(self) -> bool:
        """Whether the KV cache holds it now."""
        return self._cached.is_resident()

    def leave_kv_cache(self) -> None:
        """Leave the KV cache unless a question is being answered; the next one brings it back.

        On the scheduler's thread.
        """
        if not self._cached.n_users:
            self._sequences.evict(self._cached)

    def close(self) -> None:
        """Forget the conversation. Closing twice does nothing."""
        self._turns = []
        with suppress(UsageError):  # the model was closed, and the KV cache with it
            self._internals.scheduler.call(lambda: self._sequences.evict(self._cached)).wait()

    def __repr__(self) -> str:
        return f"<Conversation of {len(self._turns)} turn{'s' if len(self._turns) != 1 else ''}>"


def check_question(question: str) -> None:
    """Check that a question is a text.

    Raises:
        UsageError: it is empty, or something else.
    """
    if not isinstance(question, str):
        raise UsageError(f"the question is a {type(question).__name__}; it must be a text")
    if not question.strip():
        raise UsageError("the question is empty")


def check_questions(questions: Iterable[str]) -> list[str]:
    """Return several questions as a list.

    Raises:
        UsageError: it is a single text, or nothing to iterate over.
    """
    if isinstance(questions, str) or not isinstance(questions, Iterable):
        raise UsageError(f"questions is {questions!r:.100}; it must be a list of texts")
    return list(questions)


def _n_in_common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many elements two sequences have in common at their beginnings."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
