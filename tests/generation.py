"""One answer, token by token, on a context of its own: what the answers of the scheduler are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aesedge.errors import ContextFullError
from aesedge.llm.grammar_state import GrammarState
from aesedge.llm.sampler import Sampler, Sampling
from aesedge.llm.text_stream import TextStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.llm.context import Context
    from aesedge.llm.grammar import Grammar
    from aesedge.llm.model import LanguageModel

FinishReason = Literal["stop", "length"]


class Generation:
    """One answer in the making: iterate once for its pieces of text; the fields below grow as it goes.

    Between two pieces other sequences of the same context may be worked on: a token is always chosen right after
    the decode that it depends on.

    Args:
        context: the KV cache.
        seq_id: the sequence to continue.
        prompt: tokens to append before the answer begins; one or more.
        sampling: how tokens are chosen.
        max_tokens: length of the answer at most.
        stop: texts that end the answer and are not shown.
        grammar: what the answer may look like. Text that it leaves no choice about is prefilled, not decoded.
    """

    def __init__(
        self,
        context: Context,
        seq_id: int,
        prompt: Sequence[int],
        *,
        sampling: Sampling,
        max_tokens: int,
        stop: Sequence[str] = (),
        grammar: Grammar | None = None,
    ) -> None:
        self._context = context
        self._seq_id = seq_id
        self._prompt = prompt
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._stop = stop
        self._grammar = grammar
        self.tokens: list[int] = []
        """Tokens chosen so far, the closing one not among them."""
        self.finish_reason: FinishReason = "length"
        """``stop``: the model ended its answer or met a stop string. ``length``: ``max_tokens`` or a full context."""

    def steps(self) -> Iterator[int]:
        """Yield tokens until the answer ends or there is no room for more; the last ones are not decoded."""
        context = self._context
        grammar = None if self._grammar is None else GrammarState(context.model, self._grammar)
        with Sampler(self._sampling, grammar) as sampler:
            step = sampler.begin()
            context.prefill_tokens(self._seq_id, [*self._prompt, *step.tokens[: self._max_tokens]])
            is_decoded = True
            while True:
                for token in step.tokens:
                    self.tokens.append(token)
                    yield token
                    if len(self.tokens) >= self._max_tokens:
                        return
                if step.ended:
                    self.finish_reason = "stop"
                    return
                if not is_decoded:
                    try:
                        context.prefill_tokens(self._seq_id, step.tokens)
                    except ContextFullError:
                        return
                step, is_decoded = sampler.step(context, -1), False

    def __iter__(self) -> Iterator[str]:
        stream = TextStream(self._stop)
        for token in self.steps():
            piece = stream.feed(self._context.model.piece(token))
            if piece:
                yield piece
            if stream.stopped:
                self.finish_reason = "stop"
                return
        piece = stream.finish()
        if piece:
            yield piece


TEXT = "the image of a USER: what High Medium Low photo"


def tokens(llm: LanguageModel, text: str = TEXT) -> list[int]:
    """Return a prompt in tokens."""
    return [llm.bos, *llm.tokenize(text)]
