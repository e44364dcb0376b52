"""Track one answer in its grammar: which tokens are allowed next, and which are forced."""

from __future__ import annotations

import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from aesedge.errors import UsageError
from aesedge.llm.grammar import in_short, limits, panics_as_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.llm.grammar import Grammar
    from aesedge.llm.model import LanguageModel

_MOST_FORCED = 2048  # tokens at once
_MAX_STEP_S = 0.2
"""Of computing for one token. llguidance counts what it makes, not how long it searches in that, and this grows."""


class GrammarState:
    """Where one answer is in a grammar; it begins with a space, as a word does after a colon.

    That is how models of this kind learned to begin, and :class:`TextStream` does not show it.

    Args:
        model: whose tokens are chosen; it must outlive this.
        grammar: what the answer may look like.
    """

    def __init__(self, model: LanguageModel, grammar: Grammar) -> None:
        import llguidance

        self._model = model
        self.vocabulary = TokenVocabulary.of(model)
        self.is_over = False
        """Whether nothing but the end may follow."""
        with panics_as_errors():
            self._matcher: Any = llguidance.LLMatcher(
                self.vocabulary.trie, grammar.source, log_level=0, limits=limits()
            )
        self._check()

    def allowed(self) -> npt.NDArray[np.int64]:
        """Return the tokens that may come next, end tokens among them where the answer may end.

        Raises:
            UsageError: following the grammar takes too much.
        """
        self._check()
        if self.is_over:
            return np.array(sorted(self.vocabulary.ends))
        with self._bounded():
            mask: bytes = self._matcher.compute_bitmask()
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=self._model.n_vocab, bitorder="little")
        if bits[self.vocabulary.eos_token_id]:
            bits[sorted(self.vocabulary.ends)] = 1
        return np.flatnonzero(bits)

    def accept(self, tokens: Sequence[int]) -> None:
        """Go on by tokens.

        Raises:
            UsageError: the grammar does not allow them, or following it takes too much.
        """
        self._check()
        for token in tokens:
            if token in self.vocabulary.ends:
                self.is_over = True
                return
            if self.is_over or not 0 <= token < self._model.n_vocab:
                raise UsageError(f"the grammar does not allow token {token} here")
            with self._bounded():
                is_allowed = self._matcher.validate_tokens([token]) == 1 and self._matcher.consume_token(token)
            if not is_allowed:
                raise UsageError(f"the grammar does not allow token {token} here")
            self.is_over = self._matcher.is_stopped()

    def forced(self) -> list[int]:
        """Return the tokens that come next whatever the model says, and go on by them; often none.

        Forced is text, not tokens: a literal may be spelled in many ways. It is tokenized as the model would have
        read it. Its last token is left to the model where a longer one could stand in its place.
        """
        self._check()
        if self.is_over or not self.vocabulary.has_all_bytes:
            return []
        with self._bounded():
            tokens: list[int] = self._matcher.compute_ff_tokens()[:_MOST_FORCED]
        self.accept(tokens)
        return tokens

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Raise an error if llguidance has one, or if what it did took too long to go on like that."""
        before = time.thread_time()
        with panics_as_errors():
            yield
        self._check()
        if time.thread_time() - before > _MAX_STEP_S:
            raise UsageError("the grammar is too ambiguous or too large to follow here; simplify it")

    def _check(self) -> None:
        if self._matcher is None or not self._model.handle:  # llama.cpp would follow a pointer to what is gone
            raise UsageError("this grammar's state, or its model, was closed")
        if self._matcher.is_error():
            reason = in_short(self._matcher.get_error())
            raise UsageError(f"the grammar is too ambiguous or too large to follow here; simplify it ({reason})")

    def close(self) -> None:
        """Free the state. Closing twice does nothing."""
        self._matcher = None


class TokenVocabulary:
    """What every token of a model spells, as llguidance asks for it.

    Made once per model, when a grammar is first used: 32,000 calls of llama.cpp, 0.2 s.
    """

    _made: ClassVar[weakref.WeakKeyDictionary[LanguageModel, TokenVocabulary]] = weakref.WeakKeyDictionary()
    is_tokenizer_wrapper = True  # how llguidance knows such an object

    def __init__(self, model: LanguageModel) -> None:
        import llguidance

        self._tokenize = weakref.WeakMethod(model.tokenize)
        texts = [model.piece(token) for token in range(model.n_vocab)]
        self.ends = frozenset(token for token in range(model.n_vocab) if model.is_end(token)) or frozenset({model.eos})
        # Tokens that spell nothing, <s> among them, are no text: a grammar must not take them for their names.
        self.special_token_ids = [token for token, text in enumerate(texts) if not text or token in self.ends]
        self.tokens = [text or b"<|%d|>" % token for token, text in enumerate(texts)]
        self.eos_token_id, self.bos_token_id = min(self.ends), None
        self.has_all_bytes = len({text for text in texts if len(text) == 1}) >= 0xFF
        self._texts = texts
        with panics_as_errors():
            self.trie = llguidance.LLTokenizer(self)  # type: ignore[arg-type]

    @classmethod
    def of(cls, model: LanguageModel) -> TokenVocabulary:
        """Return a model's vocabulary."""
        if not model.handle:
            raise UsageError("this model was closed")
        if model not in cls._made:
            cls._made[model] = cls(model)
        return cls._made[model]

    def __call__(self, text: str) -> list[int]:
        """Return tokens whose texts joined are exactly this text, in the model's own way where that is possible."""
        tokenize = self._tokenize()
        if not text or tokenize is None:
            return []
        # SentencePiece puts a space before a text, which may melt into its first word. No piece has \x01 in it, so
        # what comes after that one is tokenized as if it came after other text.
        found = tokenize("\x01" + text)
        first = next((i for i, token in enumerate(found) if self._texts[token] == b"\x01"), len(found))
        found = found[first + 1 :]
        if b"".join(self._texts[token] for token in found) != text.encode():  # e.g. U+2581, its sign for a space
            found = self.trie.greedy_tokenize(text)
        return found
