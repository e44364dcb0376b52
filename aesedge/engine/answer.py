"""Answers as users read them: piece by piece while they are generated, or whole."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.engine.completion import Completion
    from aesedge.engine.logprobs import TokenLogprob
    from aesedge.engine.results import FinishReason
    from aesedge.engine.timings import Timings
    from aesedge.scheduling.task import JobFuture

_POLL_S = 0.5  # Windows does not notice Ctrl-C during a wait without a timeout


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A generated text; ``str()`` gives the text alone."""

    text: str
    tokens: tuple[int, ...]
    """Without the end-of-sequence token."""
    finish_reason: FinishReason
    """``stop``: the model, a stop text, the grammar or the number of sentences ended it. ``length``: it was cut at
    ``max_tokens`` or at the end of the context. ``deadline``: it was cut after the last sentence before the deadline.
    ``cancelled``: the stream was closed."""
    timings: Timings
    """Of this answer alone, from the question on."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of its tokens, with ``top_logprobs``."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Answer({self.text!r}, n_tokens={self.n_tokens}, finish_reason={self.finish_reason!r})"


class AnswerStream(Closing):
    """An answer that is being generated: an iterator over its pieces of text.

    It is generated from the call of ``stream`` on, whether it is read or not. Closing it, leaving its ``with``, or
    dropping it ends the generation.
    """

    def __init__(self, completion: Completion, job: JobFuture[None]) -> None:
        self._completion = completion
        self._job = job
        self._closed = False
        job.add_done_callback(lambda _job: completion.pieces.put(None))

    @property
    def text(self) -> str:
        """The text so far."""
        return self._completion.text

    @property
    def n_tokens(self) -> int:
        """Tokens so far."""
        return len(self._completion.tokens)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, see :attr:`Answer.finish_reason`; None while it is generated."""
        reason = self._completion.finish_reason
        return "cancelled" if reason is None and self._job.done() else reason  # which was stopped before it began

    def __iter__(self) -> AnswerStream:
        return self

    def __next__(self) -> str:
        """Wait for the next piece of text.

        Raises:
            AesedgeError: the generation failed, or the model was closed.
        """
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    piece = self._completion.pieces.get(timeout=_POLL_S)
                    break
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if piece is not None:
            return piece
        self._completion.pieces.put(None)  # for the next call, and for other threads
        self._raise_failure()
        raise StopIteration

    def read(self) -> Answer:
        """Wait for the end and return the whole answer, the pieces that were iterated over included.

        Raises:
            AesedgeError: the generation failed, or the model was closed.
        """
        if not self._closed:
            try:
                self._job.wait()
            except BaseException:
                self.close()
                raise
        self._raise_failure()
        done = self._completion
        return Answer(
            text=done.text,
            tokens=tuple(done.tokens),
            finish_reason=self.finish_reason or "cancelled",
            timings=done.recorder.timings,
            logprobs=tuple(done.logprobs),
        )

    def _raise_failure(self) -> None:
        if not self._closed:
            self._job.result()

    def close(self) -> None:
        """End the generation; returns once it has ended. Does nothing if it has."""
        if self._job.cancel():
            self._closed = True
            concurrent.futures.wait([self._job])

    def __del__(self) -> None:
        if hasattr(self, "_job"):
            self._job.cancel()  # without waiting: this may be the thread that would have to end it

    def __repr__(self) -> str:
        return f"AnswerStream(n_tokens={self.n_tokens}, finish_reason={self.finish_reason!r})"


def read_all(streams: Sequence[AnswerStream]) -> list[Answer]:
    """Wait for several answers; if one fails, the others are closed."""
    try:
        return [stream.read() for stream in streams]
    except BaseException:
        for stream in streams:
            stream.close()
        raise
