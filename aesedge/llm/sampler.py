"""Choosing the next token: llama.cpp's sampler chain, a grammar before it; knows logits of a context's last batch."""

from __future__ import annotations

import bisect
import codecs
import ctypes
import random
import time
import weakref
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from aesedge.errors import InferenceError, UsageError
from aesedge.llm import binding
from aesedge.llm.grammar import ROOT, SPACED_ROOT

if TYPE_CHECKING:
    from aesedge.llm.context import Context
    from aesedge.llm.grammar import Grammar
    from aesedge.llm.model import LanguageModel

_Tokens = npt.NDArray[np.int32]
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data
_N_LIKELIEST = 256  # tried first: where enough of them are allowed, the other 32,000 need no look
_MAX_FORCED_BYTES = 4096  # at once
_MAX_CPU_S = 2.0  # for a step that takes milliseconds; an ambiguous grammar multiplies it with every character


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, per call."""

    temperature: float = 0.0
    """0 takes the likeliest token always; higher is more varied (0.2 is LLaVA's own)."""
    top_k: int = 40
    """Choose among the k likeliest tokens; 0 is all."""
    top_p: float = 0.95
    """Choose among the likeliest tokens that make up this probability; 1 is all."""
    min_p: float = 0.05
    """Leave out tokens less likely than this share of the likeliest; 0 is none."""
    seed: int | None = None
    """Same seed, same text; None draws one. Without meaning at temperature 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise UsageError(f"temperature {self.temperature} is not between 0 and 10")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1 or self.top_k < 0:
            raise UsageError("top_p is above 0 and at most 1, min_p is from 0 to 1, top_k is 0 or more")


class Step(NamedTuple):
    """What comes next in an answer."""

    tokens: list[int]
    """Tokens to append, in this order: one that was chosen, and those which no choice is left about."""
    ended: bool
    """Whether the answer ends with them; then none of them needs to be decoded."""


class Sampler:
    """One sequence's chain; it remembers what it chose.

    Who follows the answer token by token calls :meth:`sample` after each decode. Who wants forced text at once calls
    :meth:`begin` before the prompt is prefilled, appends what it returns to the prompt, and calls :meth:`step` after
    each decode, until a step has ended.

    Args:
        sampling: how tokens are chosen.
        grammar: what the answer may look like; closed together with the sampler.
    """

    def __init__(self, sampling: Sampling, grammar: GrammarState | None = None) -> None:
        lib = self._lib = binding.load()
        self._grammar = grammar
        self._chain: Any = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        self._n_enough = 1 if sampling.temperature == 0 else sampling.top_k or 2**31
        """The chain begins with keeping this many of the likeliest tokens."""
        if sampling.temperature == 0:
            self._add(lib.llama_sampler_init_greedy())
            return
        if sampling.top_k:
            self._add(lib.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p:
            self._add(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        self._add(lib.llama_sampler_init_temp(sampling.temperature))
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(31)
        self._add(lib.llama_sampler_init_dist(seed % 2**32))

    def _add(self, link: Any) -> None:
        self._lib.llama_sampler_chain_add(self._chain, link)  # the chain owns its links from now on

    def begin(self) -> Step:
        """Return what the answer begins with whatever the model says; it may follow the prompt in the same prefill."""
        return Step([], ended=False) if self._grammar is None else self._followed([])

    def step(self, context: Context, row: int) -> Step:
        """Choose a token from a row of the context's last batch, and add what is forced after it."""
        token = self.sample(context, row)
        if context.model.is_end(token):
            return Step([], ended=True)
        return Step([token], ended=False) if self._grammar is None else self._followed([token])

    def _followed(self, tokens: list[int]) -> Step:
        assert self._grammar is not None  # noqa: S101 (for the type checker; both callers have looked)
        tokens = tokens + self._grammar.forced()
        return Step(tokens, ended=self._grammar.is_over)

    def sample(self, context: Context, row: int) -> int:
        """Return the token chosen from a row of the context's last batch; -1 is its last row.

        With a grammar it is an end token where nothing else is allowed.
        """
        if self._grammar is None:
            return int(self._lib.llama_sampler_sample(self._chain, context.handle, row))
        token = self._choose(self._grammar, context.logits(row))
        self._grammar.accept(token)
        return token

    def _choose(self, grammar: GrammarState, logits: npt.NDArray[np.float32]) -> int:
        if not np.isfinite(logits).all():  # llama.cpp's chain ends the process over them
            raise InferenceError("the language model returned numbers that are not finite; export the bundle again")
        tokens = grammar.pieces.tokens
        n_first = min(_N_LIKELIEST, len(tokens))
        likeliest = np.argpartition(-logits[tokens], n_first - 1)[:n_first]
        allowed = grammar.allowed(tokens[np.sort(likeliest)])
        if len(allowed) < self._n_enough:
            allowed = grammar.allowed(tokens)
        if not len(allowed):
            return grammar.pieces.end
        allowed.sort()  # ties are broken as without a grammar
        candidates = _candidates(allowed, logits[allowed])
        array = _array(candidates)
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise InferenceError("llama.cpp chose no token")
        token = int(candidates["id"][array.selected])
        self._lib.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free the chain and the grammar's state. Closing twice does nothing."""
        chain, self._chain = self._chain, None
        if chain:
            self._lib.llama_sampler_free(chain)
        if self._grammar is not None:
            self._grammar.close()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class GrammarState:
    """Where one answer is in a grammar. Close it, or give it to a sampler, which does.

    Args:
        model: whose tokens are chosen; it must outlive this.
        grammar: what the answer may look like.
        spaced: whether the answer begins with a space, as a word does after a colon. That is how models of this kind
            learned to begin, and :class:`TextStream` does not show it.
    """

    def __init__(self, model: LanguageModel, grammar: Grammar, *, spaced: bool = True) -> None:
        self._lib = lib = binding.load()
        self._model = model
        self.pieces = Pieces.of(model)
        root = SPACED_ROOT if spaced else ROOT
        binding.clear_log()
        self._state: Any = lib.llama_sampler_init_grammar(
            lib.llama_model_get_vocab(model.handle), grammar.text.encode(), root.encode()
        )
        if not self._state:
            raise UsageError(f"llama.cpp refuses the grammar: {binding.last_complaint() or 'no reason given'}")
        self._half_character = b""
        self.is_over = False
        """Whether nothing but the end may follow."""

    def allowed(self, tokens: _Tokens) -> _Tokens:
        """Return those of the tokens that may come next, end tokens among them where the answer may end."""
        n_vocab = len(self.pieces.texts)
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < n_vocab):
            raise UsageError(f"token id outside the vocabulary of {n_vocab}")
        return self._allowed(self._open_state(), tokens, self._half_character)

    def _open_state(self) -> Any:
        # llama.cpp would follow a pointer to what is gone.
        if self._state is None or not self._model.handle:
            raise UsageError("this grammar's state, or its model, was closed")
        return self._state

    def _allowed(self, state: Any, tokens: _Tokens, half_character: bytes) -> _Tokens:
        # An ambiguous grammar is tried in all its readings, and their number multiplies with the length of a piece.
        # So short pieces come first, and it ends where they take too long, before the long ones take for ever.
        tokens = tokens[self.pieces.is_spoken[tokens]]
        lengths = self.pieces.lengths[tokens]
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        kept = []
        for part in np.split(tokens[order], cuts):
            candidates = _candidates(part)
            started = time.thread_time()
            self._lib.llama_sampler_apply(state, ctypes.byref(_array(candidates)))
            _check_time(started)
            kept.append(part[candidates["logit"] > -np.inf])
        found = np.concatenate(kept) if kept else tokens
        # llama.cpp reads bytes more leniently than UTF-8 is.
        return found[_bytes_after(half_character)[self.pieces.high_bytes[found]]]

    def accept(self, token: int) -> None:
        """Go on by a token.

        Raises:
            UsageError: the grammar does not allow it; llama.cpp would end the process.
        """
        is_allowed = len(self.allowed(np.array([token], np.int32))) > 0
        if self.pieces.is_end[token]:
            self.is_over = True
            return
        if self.is_over or not is_allowed:
            raise UsageError(f"the grammar does not allow token {token} ({self.pieces.texts[token]!r}) here")
        self._half_character = self._advance(self._state, token, self._half_character)

    def _advance(self, state: Any, token: int, half_character: bytes) -> bytes:
        """Go on by an allowed token; return the bytes of a character that it leaves unfinished."""
        text = self.pieces.texts[token]
        singles = [self.pieces.by_byte.get(byte, -1) for byte in text]
        # Byte by byte, so that one that multiplies the readings is noticed before the next one does.
        for single in singles if -1 not in singles else [token]:
            started = time.thread_time()
            self._lib.llama_sampler_accept(state, single)
            _check_time(started)
        return _half_of(half_character + text) or b""

    def forced(self) -> list[int]:
        """Return the tokens that come next whatever the model says, and go on by them; often none.

        Forced is text, not tokens: a literal may be spelled in many ways. It is tokenized as the model would have
        read it. Its last token is left to the model where a longer one could stand in its place.
        """
        if self.is_over:
            return []
        text, is_over = self._forced_text()
        tokens = self.pieces.tokenize(text)
        for i, token in enumerate(tokens):
            if i == len(tokens) - 1 and not is_over and len(self.allowed(self.pieces.longer(token))):
                return tokens[:i]
            self.accept(token)
        self.is_over = is_over
        return tokens

    def _forced_text(self) -> tuple[bytes, bool]:
        """Return the bytes, whole characters, that must come next, and whether nothing comes after them."""
        text, half = b"", self._half_character
        state = self._lib.llama_sampler_clone(self._open_state())
        try:
            while len(text) < _MAX_FORCED_BYTES:
                options = self._allowed(state, self.pieces.bytes_and_ends, half)
                if len(options) != 1 or self.pieces.is_end[options[0]]:
                    is_over = all(self.pieces.is_end[token] for token in options) and self.pieces.has_all_bytes
                    return (text, True) if is_over else (text[: max(len(text) - len(half), 0)], False)
                half = self._advance(state, int(options[0]), half)
                text += self.pieces.texts[options[0]]
            return text[: max(len(text) - len(half), 0)], False
        finally:
            self._lib.llama_sampler_free(state)

    def close(self) -> None:
        """Free the state. Closing twice does nothing."""
        state, self._state = self._state, None
        if state:
            self._lib.llama_sampler_free(state)


class Pieces:
    """What every token of a model spells, and the ways to look it up. Made once per model: 32,000 calls, 0.1 s."""

    _made: ClassVar[weakref.WeakKeyDictionary[LanguageModel, Pieces]] = weakref.WeakKeyDictionary()

    def __init__(self, model: LanguageModel) -> None:
        self._tokenize = weakref.WeakMethod(model.tokenize)
        self.texts = [model.piece(token) for token in range(model.n_vocab)]
        self.is_end = np.array([model.is_end(token) for token in range(model.n_vocab)])
        ends = np.flatnonzero(self.is_end).astype(np.int32)
        self.end = int(ends[0]) if len(ends) else model.eos
        self.lengths = np.array([len(text) for text in self.texts], np.int32)
        # Control tokens spell nothing, but llama.cpp's grammars take <s> for three letters.
        self.is_spoken = (self.lengths > 0) | self.is_end
        self.tokens = np.flatnonzero(self.is_spoken).astype(np.int32)
        self.by_byte = {self.texts[token][0]: token for token in map(int, self.tokens) if self.lengths[token] == 1}
        self.has_all_bytes = len(self.by_byte) >= 0xFF
        some = [token for token in self.by_byte.values() if self.has_all_bytes]
        self.bytes_and_ends = np.array([*some, *ends], np.int32)
        self.high_bytes = np.array(
            [text[0] if len(text) == 1 and text >= b"\x80" else 0 for text in self.texts], np.uint8
        )
        self._sorted = sorted((self.texts[token], token) for token in map(int, self.tokens))

    @classmethod
    def of(cls, model: LanguageModel) -> Pieces:
        """Return a model's pieces."""
        if not model.handle:
            raise UsageError("this model was closed")
        if model not in cls._made:
            cls._made[model] = cls(model)
        return cls._made[model]

    def longer(self, token: int) -> _Tokens:
        """Return the tokens whose text begins with this one's and goes on."""
        text = self.texts[token]
        start = bisect.bisect_right(self._sorted, (text, 2**31))
        stop = bisect.bisect_left(self._sorted, (text + b"\xff" * 8, 0))
        return np.array([found for _, found in self._sorted[start:stop]], np.int32)

    def tokenize(self, text: bytes) -> list[int]:
        """Return tokens whose texts joined are exactly these bytes, in the model's own way where that is possible."""
        n_rest = next((i for i, byte in enumerate(text) if byte & 0xC0 != 0x80), len(text))
        rest = [self.by_byte[byte] for byte in text[:n_rest]]  # of a character that was begun before
        text = text[n_rest:]
        tokenize = self._tokenize()
        if not text or tokenize is None:
            return rest
        # SentencePiece puts a space before a text, which may melt into its first word. No piece has \x01 in it, so
        # what comes after that one is tokenized as if it came after other text.
        found = tokenize("\x01" + text.decode())
        first = next((i for i, token in enumerate(found) if self.texts[token] == b"\x01"), len(found))
        found = found[first + 1 :]
        if b"".join(self.texts[token] for token in found) != text:  # e.g. U+2581, SentencePiece's sign for a space
            found = [self.by_byte[byte] for byte in text]
        return rest + found


def _candidates(tokens: _Tokens, logits: npt.NDArray[np.float32] | None = None) -> npt.NDArray[Any]:
    candidates = np.zeros(len(tokens), _TOKEN_DATA)
    candidates["id"] = tokens
    if logits is not None:
        candidates["logit"] = logits
    return candidates


def _array(candidates: npt.NDArray[Any]) -> Any:
    """Return llama.cpp's view of candidates, which must stay alive while it is used."""
    lib = binding.load()
    data = ctypes.cast(candidates.ctypes.data, lib.llama_token_data_p)
    return lib.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)


def _check_time(started: float) -> None:
    if time.thread_time() - started > _MAX_CPU_S:
        raise UsageError("the grammar is too ambiguous: the same text can be read in too many ways; simplify it")


@cache
def _bytes_after(half_character: bytes) -> npt.NDArray[np.bool_]:
    """Return which single bytes may follow in UTF-8, bool [256]; 0 stands for every piece that is no such byte."""
    return np.array(
        [True, *(byte < 0x80 or _half_of(half_character + bytes([byte])) is not None for byte in range(1, 256))]
    )


def _half_of(text: bytes) -> bytes | None:
    """Return the bytes at the end of a text that only begin a character, or None where it is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(text)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]
