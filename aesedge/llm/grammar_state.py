"""Where one answer is in its grammar, on llama.cpp's grammar sampler: what may come next, and what must.

Nothing goes to llama.cpp before it is known what it costs there; knows tokens and their texts, no logits.
"""

from __future__ import annotations

import codecs
import ctypes
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import UsageError
from aesedge.llm import binding
from aesedge.llm.gbnf import ROOT, SPACED_ROOT
from aesedge.llm.grammar_pieces import Pieces, Tokens
from aesedge.llm.grammar_stacks import Stacks, too_ambiguous

if TYPE_CHECKING:
    from aesedge.llm.grammar import Grammar
    from aesedge.llm.model import LanguageModel

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data
_MAX_CALL_S = 0.5  # of one call of llama.cpp, by bounds that are mostly far above what it takes
_STEP_S, _READING_S = 5e-9, 2e-8  # for an element of a stack that is copied, for a token that is read


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
        self._stacks = Stacks(grammar.elements, root)
        self._now = self._stacks.now
        binding.clear_log()
        self._state: Any = lib.llama_sampler_init_grammar(
            lib.llama_model_get_vocab(model.handle), grammar.text.encode(), root.encode()
        )
        if not self._state:
            raise UsageError(f"llama.cpp refuses the grammar: {binding.last_complaint() or 'no reason given'}")
        self._half_character = b""
        self.is_over = False
        """Whether nothing but the end may follow."""

    def allowed(self, tokens: Tokens) -> Tokens:
        """Return those of the tokens that may come next, end tokens among them where the answer may end.

        Where trying long pieces would take too long, short ones alone are allowed: any text can be spelled with them.

        Raises:
            UsageError: even a single character can be read in too many ways.
        """
        self._check(tokens)
        tokens = tokens[self.pieces.is_spoken[tokens]]
        lengths = self.pieces.n_characters[tokens]
        kept = [tokens[:0]]
        for length in np.unique(lengths):
            part = tokens[lengths == length]
            if not self._is_cheap(int(length), len(part)):
                if length > 1:
                    break
                raise too_ambiguous()
            candidates = candidates_of(part)
            self._lib.llama_sampler_apply(self._state, ctypes.byref(array_of(candidates)))
            kept.append(part[candidates["logit"] > -np.inf])
        found = np.concatenate(kept)
        # llama.cpp reads bytes more leniently than UTF-8 is.
        return found[_bytes_after(self._half_character)[self.pieces.high_bytes[found]]]

    def _check(self, tokens: Tokens) -> None:
        n_vocab = len(self.pieces.texts)
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < n_vocab):
            raise UsageError(f"token id outside the vocabulary of {n_vocab}")
        if self._state is None or not self._model.handle:  # llama.cpp would follow a pointer to what is gone
            raise UsageError("this grammar's state, or its model, was closed")

    def _is_cheap(self, n_characters: int, n_tokens: int) -> bool:
        n_steps, n_readings = self._stacks.cost(self._now, max(n_characters, 1))
        return n_steps * _STEP_S + n_readings * n_tokens * _READING_S < _MAX_CALL_S

    def accept(self, token: int) -> None:
        """Go on by a token.

        Raises:
            UsageError: the grammar does not allow it; llama.cpp would end the process. Or it is too ambiguous.
        """
        self._check(np.array([token], np.int32))
        if self.pieces.is_end[token]:
            self.is_over = True
            return
        text = self.pieces.texts[token]
        half = _half_of(self._half_character + text)
        if self.is_over or not text or half is None:
            raise self._not_allowed(token)
        singles = [self.pieces.by_byte.get(byte, -1) for byte in text]
        # Byte by byte, so that one that multiplies the readings is noticed before the next one does.
        for single in singles if -1 not in singles else [token]:
            self._accept(single, token)

    def _accept(self, single: int, token: int) -> None:
        text = self._half_character + self.pieces.texts[single]
        half = _half_of(text) or b""
        stacks = self._now
        for character in text[: len(text) - len(half)].decode():
            stacks = self._stacks.after(stacks, ord(character))
        if not stacks or not len(self.allowed(np.array([single], np.int32))):
            raise self._not_allowed(token)
        self._lib.llama_sampler_accept(self._state, single)
        self._now, self._half_character = stacks, half

    def _not_allowed(self, token: int) -> UsageError:
        text = self.pieces.texts[token]
        return UsageError(f"the grammar does not allow token {token} ({text!r}) here")

    def forced(self) -> list[int]:
        """Return the tokens that come next whatever the model says, and go on by them; often none.

        Forced is text, not tokens: a literal may be spelled in many ways. It is tokenized as the model would have
        read it. Its last token is left to the model where a longer one could stand in its place.
        """
        self._check(self.pieces.tokens[:0])
        if self.is_over or not self.pieces.has_all_bytes:
            return []
        text, is_over = self._stacks.forced(self._now, self._half_character)
        tokens = self.pieces.tokenize(text)
        for i, token in enumerate(tokens):
            if i == len(tokens) - 1 and not is_over and len(self.allowed(self.pieces.longer(token))):
                return tokens[:i]
            self.accept(token)
        self.is_over = is_over
        return tokens

    def close(self) -> None:
        """Free the state. Closing twice does nothing."""
        state, self._state = self._state, None
        if state:
            self._lib.llama_sampler_free(state)


def candidates_of(tokens: Tokens, logits: npt.NDArray[np.float32] | None = None) -> npt.NDArray[Any]:
    """Return tokens, and what they are chosen by, as llama.cpp takes them."""
    candidates = np.zeros(len(tokens), _TOKEN_DATA)
    candidates["id"] = tokens
    if logits is not None:
        candidates["logit"] = logits
    return candidates


def array_of(candidates: npt.NDArray[Any]) -> Any:
    """Return llama.cpp's view of candidates, which must stay alive while it is used."""
    lib = binding.load()
    data = ctypes.cast(candidates.ctypes.data, lib.llama_token_data_p)
    return lib.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)


@functools.cache
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
