"""The answer to one question as it is generated: text, times, how it ended; knows pieces of text, no sequences.

It is written on the scheduler's thread and read on any other: in a loop, as a whole, or from asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aesedge.llm.sampler import Sampling
from aesedge.system.bounds import check_real, check_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from concurrent.futures import Future

    from aesedge.engine.results import Timings
    from aesedge.llm import Grammar
    from aesedge.scheduling.scheduler import JobFuture

_LOOK_UP_S = 0.5
"""Windows does not notice Ctrl-C while it waits for something that has no end."""
_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*(?=\s|$)|\n")

DEFAULT_MAX_TOKENS = 512  # LLaVA's own limit
_MOST_TOKENS = 1 << 20
_MOST_SECONDS = 86_400  # a day
FinishReason = Literal["stop", "length", "deadline", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How an answer is written, per call."""

    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = DEFAULT_MAX_TOKENS
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not shown."""
    sentences: int | None = None
    """The answer ends after so many sentences, unless the model ends it before."""
    grammar: Grammar | None = None
    """What the answer may look like; it can still be cut at ``max_tokens``, by ``stop`` and at the deadline."""
    deadline: float | None = None
    """Seconds after the call, looking at the photo included, when the answer must be over; it then comes in whole
    sentences, and ends with the last one."""

    def __post_init__(self) -> None:
        check_whole("max-tokens", self.max_tokens, 1, _MOST_TOKENS)
        if self.deadline is not None:
            check_real("deadline", self.deadline, 0, _MOST_SECONDS, open_below=True)


class Reply:
    """One answer: iterate for its pieces of text, or read it whole; ``text`` and the rest grow as it goes.

    Nothing happens before it is iterated, read, awaited, or started.

    Args:
        submit: hands the work in that writes this reply.
        writing: how it is written.
        timings: where times and counts are added.
        started: when the user's call began, by ``time.perf_counter``.
    """

    def __init__(
        self, submit: Callable[[Reply], JobFuture[None]], writing: Writing, timings: Timings, started: float
    ) -> None:
        self._submit = submit
        self._started = started
        self._deadline = None if writing.deadline is None else started + writing.deadline
        self._held = ""
        self._begun: float | None = None
        self._first: float | None = None
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._ticket: JobFuture[None] | None = None
        self.timings = timings
        self.text = ""
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None
        """``stop``: the model ended it. ``length``: it was cut at ``max_tokens`` or at the end of the context.
        ``deadline``: it was cut at the last sentence before the deadline. ``cancelled``: it was not wanted any more."""

    def start(self) -> Reply:
        """Have it written from now on, together with others that were started. Starting twice does nothing."""
        self._start()
        return self

    def _start(self) -> JobFuture[None]:
        with self._starting:
            if self._ticket is None:
                self._ticket = self._submit(self)
                self._ticket.add_done_callback(self._over)
            return self._ticket

    def _over(self, ticket: Future[None]) -> None:
        if ticket.exception() is not None and self.finish_reason is None:  # stopped before it began
            self.finish_reason = "cancelled"
        self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        ticket = self._start()
        try:
            while (piece := self._next()) is not None:
                yield piece
            ticket.result()
        except BaseException:
            self.cancel()
            raise

    def _next(self) -> str | None:
        """Return the next piece of text, None after the last."""
        while True:
            with contextlib.suppress(queue.Empty):
                piece = self._pieces.get(timeout=_LOOK_UP_S)
                if piece is None:
                    self._pieces.put(None)  # for whoever asks again
                return piece

    def read(self) -> str:
        """Wait for the whole answer and return it; what was not iterated still can be."""
        ticket = self._start()
        try:
            ticket.wait()
        except BaseException:
            self.cancel()
            raise
        return self.text

    async def __aiter__(self) -> AsyncIterator[str]:
        ticket = self._start()
        try:
            while (piece := await asyncio.to_thread(self._next)) is not None:
                yield piece
        except BaseException:
            ticket.cancel()
            raise
        await asyncio.wrap_future(ticket)

    async def _read(self) -> str:
        ticket = self._start()
        await asyncio.wrap_future(ticket)
        return self.text

    def __await__(self) -> Generator[object, None, str]:
        return self._read().__await__()

    def cancel(self) -> None:
        """Have it end where it is; returns when it has. Does nothing if it is over, or was never started."""
        if self._ticket is not None and self._ticket.cancel():
            concurrent.futures.wait([self._ticket])

    def past_deadline(self) -> bool:
        """Whether its deadline is over."""
        return self._deadline is not None and time.perf_counter() >= self._deadline

    def begin(self) -> None:
        """Say that work on it begins."""
        self._begun = time.perf_counter()

    def add(self, token: int, piece: str) -> None:
        """Add a token, and the text that may be shown now."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now
            self.timings.prefill_s += now - (self._begun or now)
            if self.timings.ttft_s is None:
                self.timings.ttft_s = now - self._started
        self.tokens.append(token)
        self._show(piece)

    def finish(self, rest: str, reason: FinishReason) -> None:
        """Say how it ended, and the text that was held back until then."""
        self._show(rest)
        if reason != "deadline":
            self._put(self._held)
        self.finish_reason = reason

    def account(self) -> None:
        """Add its tokens and the time since the first of them to the timings, once, at the end."""
        self.timings.n_generated += len(self.tokens)
        if self._first is not None:
            self.timings.generate_s += time.perf_counter() - self._first

    def _show(self, piece: str) -> None:
        if self._deadline is None:
            self._put(piece)
            return
        self._held += piece
        ends = [match.end() for match in _SENTENCE_END.finditer(self._held) if match.end() < len(self._held)]
        if ends:
            self._put(self._held[: ends[-1]])
            self._held = self._held[ends[-1] :]

    def _put(self, piece: str) -> None:
        if piece:
            self.text += piece
            self._pieces.put(piece)
