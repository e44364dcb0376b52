"""The answers to one question while they are generated, as events on the event loop.

No answer needs a thread of its own: the scheduler's thread hands pieces of text over to the event loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aesedge.engine.completion import Completion
from aesedge.engine.generation import rate_all
from aesedge.engine.generation_options import DEFAULT_MAX_TOKENS, GenerationOptions
from aesedge.engine.timings import Timings, TimingsRecorder
from aesedge.serve.prefill_progress import PrefillProgress
from aesedge.serve.question import Ended, Outcome, Progress, Scored, Words

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from concurrent.futures import Future

    from aesedge.engine.conversation import Conversation
    from aesedge.engine.model import Model
    from aesedge.engine.results import CacheState, PhotoResult
    from aesedge.serve.known_photos import KnownPhoto
    from aesedge.serve.question import Event, Question

_LOOK_S = 0.2
"""How often a stream that says so is told how much of the prefill is done."""
_GATHER_S = 0.05
"""Pieces of text that come within this time are sent together: each write wakes the client, which costs more than a
token of a small model."""


class _PushedCompletion(Completion):
    """A text whose pieces are handed on while it is generated."""

    push: Callable[[str], None]

    def _put(self, piece: str) -> None:
        self.text += piece
        if piece:
            self.push(piece)


class Looked(NamedTuple):
    """What was known of a photo, and what it cost to look at it."""

    cache: CacheState = "cold"
    decode_image_s: float = 0.0
    vision_s: float = 0.0


@dataclass(frozen=True)
class SharedState:
    """What all answers of a loaded model share."""

    model: Model
    deadline_s: float | None
    running: set[Completion]
    """Answers that are being generated."""
    rating_tokens: Sequence[Sequence[int]]
    """Of the questions that every photo is rated by: the score's first, then the attributes'."""
    close_later: Callable[[Conversation | None], None]


class AnswerEvents:
    """One question while it is answered. Lives on the event loop's thread.

    Args:
        shared: by all answers of the model.
        known: the photo that is asked about.
        question: what is asked.
        arrived: when the request came, by ``time.perf_counter``.
    """

    def __init__(self, shared: SharedState, known: KnownPhoto, question: Question, arrived: float) -> None:
        self._shared, self._known, self._question, self._arrived = shared, known, question, arrived
        self._loop = asyncio.get_running_loop()
        self._came: deque[tuple[int | None, str | Future[Any]]] = deque()
        """From the scheduler's thread."""
        self._ready: deque[tuple[int | None, str | Future[Any]]] = deque()
        """Texts and ends of jobs, taken from there."""
        self._there = asyncio.Event()
        self._is_waking = False
        self._last_s = -math.inf
        self._jobs: list[Future[Any]] = []
        self._outs: list[_PushedCompletion] = []
        self._conversations: list[Conversation] = []
        self._n_logprobs = [0] * question.n
        self._rating: TimingsRecorder | None = None
        self._progress: PrefillProgress | None = None
        self._was_resident = known.image.is_resident()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what comes until everything is there. Closing it early ends all work within one batch.

        Ratings and texts are computed one after the other, not in the same batches: these change the last bits of
        llama.cpp's sums, and a text would depend on what of its photo was known.
        """
        question = self._question
        steps = [self._write] if question.words else []
        if question.photo is not None and self._known.ratings is not None:
            yield self._scored()
        elif question.photo is not None:
            steps.insert(0 if question.score_first else len(steps), self._rate)
        try:
            for step in steps:
                step()
                while self._jobs:
                    yield await self._next()
        finally:
            await self._stop()

    async def _next(self) -> Event:
        while self._progress is not None and not self._ready:
            try:
                await asyncio.wait_for(self._there.wait(), _LOOK_S)
            except asyncio.TimeoutError:
                return Progress(self._progress.done())
            self._progress = None  # the ratings are there
        await self._wait()
        index, came = self._ready.popleft()
        if isinstance(came, str):
            assert index is not None  # noqa: S101 (for mypy: only texts of answers are pieces)
            return Words(index, came, self._new_logprobs(index))
        self._jobs.remove(came)
        result = came.result()
        if index is None:
            first, *others = result
            names = self._shared.model.manifest.rating.attributes
            self._known.ratings = first, dict(zip(names, others, strict=True))
            return self._scored()
        return Ended(index, self._outs[index].finish_reason or "stop")

    def _rate(self) -> None:
        """Have the photo rated."""
        parts = self._shared.model.internals
        tokens = self._shared.rating_tokens
        self._rating = TimingsRecorder(self._arrived)
        job = rate_all(parts.sequences, self._known.image, parts.labels, tokens, self._rating)
        if self._question.progress:
            n_image = 0 if self._was_resident else self._known.image.n_rows
            self._progress = PrefillProgress(n_image + sum(map(len, tokens)))
            job = self._progress.watch(job)
        self._follow(None, parts.scheduler.submit(job))

    def _write(self) -> None:
        """Have all answers generated, together."""
        question = self._question
        critique = self._shared.model.manifest.prompt.critique
        turns = tuple((asked if asked.strip() else critique, text) for asked, text in question.turns)
        text = question.text if question.text.strip() else critique
        jobs = []
        for i in range(question.n):
            out = _PushedCompletion(self._options(i), TimingsRecorder(self._arrived), self._arrived)
            out.push = self._pusher(i)
            conversation = self._known.take_conversation(turns)
            self._outs.append(out)
            self._conversations.append(conversation)
            self._shared.running.add(out)
            jobs.append(conversation.job(text, out))
        for i, future in enumerate(self._shared.model.internals.scheduler.submit_all(jobs, preemptible=True)):
            self._follow(i, future)

    def _options(self, i: int) -> GenerationOptions:
        question, deadline_s = self._question, self._shared.deadline_s
        chosen = {name: getattr(question, name) for name in ("top_p", "top_k", "min_p")}
        return GenerationOptions(
            **{name: value for name, value in chosen.items() if value is not None},
            temperature=question.temperature,
            seed=None if question.seed is None else question.seed + i,
            max_tokens=min(question.max_tokens or DEFAULT_MAX_TOKENS, self._shared.model.internals.llm.n_ctx_train),
            stop=question.stop,
            grammar=question.grammar,
            top_logprobs=question.top_logprobs,
            deadline=deadline_s,
        )

    def _pusher(self, index: int) -> Callable[[str], None]:
        return lambda piece: self._hand_over(index, piece)

    def _follow(self, index: int | None, job: Future[Any]) -> None:
        self._jobs.append(job)
        job.add_done_callback(lambda job: self._hand_over(index, job))

    def _hand_over(self, index: int | None, came: str | Future[Any]) -> None:
        """Give something to the event loop, from any thread; the end of a job at once."""
        is_end = not isinstance(came, str)
        self._came.append((index, came))  # before the flag is read: what it misses is taken with the rest
        if is_end or not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(self._wake, is_end)

    def _wake(self, is_end: bool) -> None:  # noqa: FBT001 (call_soon takes no keywords)
        rest_s = self._last_s + _GATHER_S - self._loop.time()
        if is_end or rest_s <= 0:
            self._let_go()
        else:
            self._loop.call_later(rest_s, self._let_go)

    def _let_go(self) -> None:
        self._is_waking = False
        self._last_s = self._loop.time()
        self._there.set()

    async def _wait(self) -> None:
        """Wait until something is ready; pieces of one text that came together are joined."""
        while not self._ready:
            await self._there.wait()
            self._there.clear()
            texts: dict[int | None, str] = {}
            ends = []
            while self._came:
                index, came = self._came.popleft()
                if isinstance(came, str):
                    texts[index] = texts.get(index, "") + came
                else:
                    ends.append((index, came))
            self._ready += [*texts.items(), *ends]

    def _new_logprobs(self, index: int) -> tuple[Any, ...]:
        found = self._outs[index].logprobs
        begin, self._n_logprobs[index] = self._n_logprobs[index], len(found)
        return tuple(found[begin:])

    async def _stop(self) -> None:
        """End what is under way, and remember the conversations."""
        for job in self._jobs:
            job.cancel()
        while self._jobs:
            await self._wait()
            _, came = self._ready.popleft()
            if not isinstance(came, str):
                self._jobs.remove(came)
                came.exception()
        for out, conversation in zip(self._outs, self._conversations, strict=True):
            self._shared.running.discard(out)
            del out.push  # it holds this: both, and the photo, would stay until Python looks for cycles
            turns = tuple((turn.question, turn.text) for turn in conversation.turns)
            self._shared.close_later(self._known.give_back(conversation, turns))

    def _scored(self) -> Scored:
        result = self._result("cold", Timings()).to_builtins()
        return Scored({name: result[name] for name in ("score", "rating", "entropy", "off_label", "attributes")})

    def _result(self, cache: CacheState, timings: Timings) -> PhotoResult:
        assert self._known.photo is not None  # noqa: S101 (for mypy; only photos are rated)
        assert self._known.ratings is not None  # noqa: S101 (the same)
        return dataclasses.replace(self._known.photo.result(*self._known.ratings), cache=cache, timings=timings)

    def outcome(self, looked: Looked, *, load_s: float) -> Outcome:
        """Return everything about it, once all events have come.

        Args:
            looked: what it cost to look at the photo.
            load_s: how long the model had to be loaded for it.
        """
        parts, question = self._shared.model.internals, self._question
        own = [out.recorder.timings for out in self._outs]
        n_base = parts.sequences.n_positions(self._known.image)
        n_held = n_base if self._was_resident else parts.sequences.n_prefix
        n_prompt = self._outs[0].n_prompt if self._outs else n_base
        n_found = max((out.n_reused for out in self._outs), default=n_base) - (n_base - n_held)
        timings = Timings(
            decode_image_s=looked.decode_image_s,
            vision_s=looked.vision_s,
            prefill_s=max((t.prefill_s for t in own), default=0.0)
            + (self._rating.timings.prefill_s if self._rating else 0.0),
            generate_s=max((t.generate_s for t in own), default=0.0),
            total_s=time.perf_counter() - self._arrived,
            n_prompt=n_prompt,
            n_reused=n_found,
            n_generated=sum(t.n_generated for t in own),
        )
        result = self._result(looked.cache, timings).to_builtins() if question.photo is not None else None
        if result is not None and self._outs:
            result["finish_reason"] = self._outs[0].finish_reason
        return Outcome(
            question=question,
            texts=[out.text for out in self._outs],
            reasons=[out.finish_reason or "stop" for out in self._outs],
            logprobs=[list(out.logprobs) for out in self._outs],
            n_prompt=n_prompt,
            n_cached=n_found,
            n_image=self._known.image.n_rows,
            n_generated=timings.n_generated,
            result=result,
            load_s=load_s,
            prefill_s=timings.prefill_s,
            generate_s=timings.generate_s,
        )
