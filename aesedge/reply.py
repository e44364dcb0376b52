"""The answer to one question as it is generated, with its times; knows sequences and tokens, not what was asked."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.llm import Context, Generation, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from aesedge.result import Timings

DEFAULT_MAX_TOKENS = 512  # LLaVA's own limit


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How an answer is written, per call."""

    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = DEFAULT_MAX_TOKENS
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not shown."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max-tokens is {self.max_tokens}; it must be 1 or more")


@dataclass(frozen=True)
class Opening:
    """Where an answer begins: a sequence, and the tokens to append to it first."""

    seq_id: int
    prompt: Sequence[int]


class Reply:
    """One answer: iterate once for its pieces of text; ``text`` and the rest grow as it goes.

    Args:
        context: the KV cache.
        opening: makes the sequence ready when the iteration begins, and clears up when it ends.
        writing: how the answer is written.
        timings: where times and counts are added.
        started: when the user's call began, by ``time.perf_counter``.
    """

    def __init__(
        self,
        context: Context,
        opening: Callable[[], AbstractContextManager[Opening]],
        writing: Writing,
        timings: Timings,
        started: float,
    ) -> None:
        self._context = context
        self._opening = opening
        self._writing = writing
        self._started = started
        self.timings = timings
        self.text = ""
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        """``stop``: the model ended it. ``length``: it was cut at ``max_tokens`` or at the end of the context."""

    def __iter__(self) -> Iterator[str]:
        with self._opening() as opening:
            n_past = self._context.n_past(opening.seq_id)
            w = self._writing
            generation = Generation(
                self._context,
                opening.seq_id,
                opening.prompt,
                sampling=w.sampling,
                max_tokens=w.max_tokens,
                stop=w.stop,
            )
            self.tokens = generation.tokens
            self.timings.n_prompt += n_past + len(opening.prompt)
            self.timings.n_reused += n_past
            yield from self._follow(generation)

    def _follow(self, generation: Generation) -> Iterator[str]:
        timings = self.timings
        before = time.perf_counter()
        first: float | None = None
        try:
            for piece in generation:
                if first is None:
                    first = time.perf_counter()
                    timings.prefill_s += first - before
                    if timings.ttft_s is None:
                        timings.ttft_s = first - self._started
                self.text += piece
                yield piece
        finally:
            self.finish_reason = generation.finish_reason
            timings.n_generated += len(generation.tokens)
            if first is not None:
                timings.generate_s += time.perf_counter() - first

    def read(self) -> str:
        """Generate the whole answer and return it."""
        for _ in self:
            pass
        return self.text
