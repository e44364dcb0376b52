"""A loaded model as the server asks it: questions in, events on the event loop out."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from aesedge.serve.answer_events import AnswerEvents, Looked, SharedState
from aesedge.serve.known_photos import KnownPhoto, KnownPhotos, cache_state
from aesedge.system.machine import trim_heap

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aesedge.engine.completion import Completion
    from aesedge.engine.conversation import Conversation
    from aesedge.engine.model import Model
    from aesedge.serve.question import Event, Outcome, Question


class Session:
    """What a server needs of a loaded model.

    Args:
        model: it is closed together with this.
        private: whether nothing is reused between owners.
        deadline_s: seconds after a request's arrival at which its answer ends at a sentence.
    """

    def __init__(self, model: Model, *, private: bool = False, deadline_s: float | None = None) -> None:
        self.model = model
        self.internals = model.internals
        self.places = model.photos_at_once
        self.running: set[Completion] = set()
        """Answers that are being generated."""
        rating = model.manifest.rating
        tokens = [self.internals.question_tokens(q) for q in (rating.question, *rating.attributes.values())]
        self._shared = SharedState(model, deadline_s, self.running, tokens, self.close_later)
        self.photos = KnownPhotos(model, private=private)
        self._pool = ThreadPoolExecutor(self.places, thread_name_prefix="aesedge-look")

    async def answer(
        self, question: Question, owner: str, *, arrived: float, load_s: float
    ) -> AsyncGenerator[Event | Outcome, None]:
        """Answer a question; yields what comes, the outcome last. Closing it early ends all work within one batch.

        Args:
            question: what is asked.
            owner: whose key it came with.
            arrived: when the request came, by ``time.perf_counter``.
            load_s: how long the model had to be loaded for it.
        """
        known, looked = await self._look(question, owner)
        with known.used():
            answering = AnswerEvents(self._shared, known, question, arrived)
            async with aclosing(answering.events()) as events:
                async for event in events:
                    yield event
            yield answering.outcome(looked, load_s=load_s)

    async def _look(self, question: Question, owner: str) -> tuple[KnownPhoto, Looked]:
        """Return what is known of a question's photo, and what it cost to look at it."""
        if question.photo is None:
            return self.photos.without_photo(owner), Looked()
        gone = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            encoded, decode_s, encoded_before = await loop.run_in_executor(
                self._pool, self.photos.encode, question.photo, owner, gone
            )
        except asyncio.CancelledError:
            gone.set()  # the tower is not run for nobody
            raise
        known, old = self.photos.known(encoded, owner)
        for photo in old:
            self.close_later(photo)
        vision_s = 0.0 if encoded_before else encoded.vision_s
        state = cache_state(known, encoded_before=encoded_before)
        return known, Looked(state, decode_s, vision_s)

    def forget(self) -> None:
        """Forget every photo that nobody asks about at the moment: embeddings, KV cells and texts.

        What they took goes back to the system: each photo leaves other gaps in glibc's heaps, which would grow for
        thousands of photos.
        """
        for known in self.photos.take_unused():
            self.close_later(known)
        self._later(trim_heap)

    def close_later(self, what: KnownPhoto | Conversation | None) -> None:
        """Close something without waiting for the batch that is under way."""
        if what is not None:
            self._later(what.close)

    def _later(self, work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the session was closed, and everything with it
            self._pool.submit(work)

    def drain(self, seconds: float) -> None:
        """Let running answers go on for a while and then end at a sentence."""
        latest = time.perf_counter() + seconds
        for out in self.running:
            out.deadline = latest if out.deadline is None else min(out.deadline, latest)

    async def answers(self) -> None:
        """Wait until the scheduler's thread has answered a call."""
        await asyncio.wrap_future(self.internals.scheduler.call(lambda: None))

    @property
    def n_ctx(self) -> int:
        """Positions of the KV cache."""
        return self.internals.sequences.context.n_ctx

    def kv_usage(self) -> float:
        """Return the share of the KV cache that is in use, 0..1."""
        return 1.0 - self.internals.sequences.context.n_free / self.n_ctx

    def close(self) -> None:
        """Close the model; who waits for it gets an error."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.model.close()
