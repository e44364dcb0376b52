"""The text of one answer while the scheduler's thread generates it."""

from __future__ import annotations

import queue
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.logprobs import TokenLogprob
    from aesedge.engine.results import FinishReason
    from aesedge.engine.timings import TimingsRecorder

_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*(?=\s|$)|\n")


class Completion:
    """One answer, written by :mod:`aesedge.engine.generation`, read by :class:`aesedge.engine.answer.AnswerStream`.

    Args:
        options: how it is generated.
        recorder: where times and counts are added.
        started: from when its deadline counts, by ``time.perf_counter``.
    """

    def __init__(self, options: GenerationOptions, recorder: TimingsRecorder, started: float) -> None:
        self.options = options
        self.recorder = recorder
        self.deadline = None if options.deadline is None else started + options.deadline
        """By ``time.perf_counter``."""
        self.pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """Text to be read; None after the last."""
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        """Of those tokens, where the options ask for them."""
        self.n_prompt = self.n_reused = 0
        """Positions before the answer, and how many of them the KV cache held."""
        self.finish_reason: FinishReason | None = None
        self._held = ""
        self._begun: float | None = None
        self._first: float | None = None

    @property
    def past_deadline(self) -> bool:
        """Whether its deadline is over."""
        return self.deadline is not None and time.perf_counter() >= self.deadline

    def begin(self) -> None:
        """Note that its prefill begins."""
        self._begun = time.perf_counter()

    def prompt(self, n_prompt: int, n_reused: int) -> None:
        """Note how long its prompt is, and how much of that the KV cache held."""
        self.n_prompt, self.n_reused = n_prompt, n_reused
        self.recorder.add(n_prompt=n_prompt, n_reused=n_reused)

    def add(self, token: int, piece: str) -> None:
        """Add a token, and the text that may be shown now."""
        if self._first is None:
            now = self._first = time.perf_counter()
            self.recorder.add(prefill_s=now - (self._begun or now))
            self.recorder.first_token(now)
        self.tokens.append(token)
        self._show(piece)

    def finish(self, rest: str, reason: FinishReason) -> None:
        """End it, with the text that was held back until now."""
        self._show(rest)
        if reason != "deadline":
            self._put(self._held)
        self.finish_reason = reason

    def account(self) -> None:
        """Record its tokens, and the time since the first of them, once it has ended."""
        now = time.perf_counter()
        self.recorder.add(n_generated=len(self.tokens), generate_s=now - (self._first or now))
        self.recorder.end(now)

    def _show(self, piece: str) -> None:
        if self.deadline is None:
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
            self.pieces.put(piece)
