"""What every token of a model spells, for grammars, which are about text; knows a vocabulary, no grammar."""

from __future__ import annotations

import bisect
import weakref
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from aesedge.llm.model import LanguageModel

Tokens = npt.NDArray[np.int32]


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
        self.n_characters = np.array([len(text.decode("utf-8", "replace")) for text in self.texts], np.int32)
        # Control tokens spell nothing, but llama.cpp's grammars take <s> for three letters.
        self.is_spoken = (self.lengths > 0) | self.is_end
        self.tokens = np.flatnonzero(self.is_spoken).astype(np.int32)
        self.by_byte = {self.texts[token][0]: token for token in map(int, self.tokens) if self.lengths[token] == 1}
        self.has_all_bytes = len(self.by_byte) >= 0xFF
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

    def longer(self, token: int) -> Tokens:
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
