"""Make a vocabulary of an exact size for llama.cpp's SentencePiece tokenizer.

llama.cpp merges the neighbours whose joint piece has the highest score. A piece is reached through its beginnings, so
all of them are pieces too. Beginnings of words outrank what words go on with: a word is first the longest beginning
that there is, whatever its other letters could be merged to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from gguf import TokenType

from aesedge.engine.report import ADVICE, ATTRIBUTE, FAULTS, STRENGTHS
from aesedge.errors import UsageError
from aesedge.llm.prompt import TEMPLATES

from ..questions import default_prompt, default_rating
from .word_list import COMMON, ENDINGS, SPLIT

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = "\u2581"
_SPECIAL = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "</s>": TokenType.CONTROL}
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_CHARACTERS = [_SPACE, *map(chr, range(0x21, 0x7F))]
"""As in Llama's vocabulary a line break is none: it is written as a byte."""
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_STRIDE = 99991  # a prime: neighbours among the made-up words do not begin alike


@dataclass(frozen=True)
class RandomVocabulary:
    """One entry per row of the token embedding."""

    pieces: list[str]
    scores: list[float]
    types: list[int]
    """Values of :class:`gguf.TokenType`."""
    unk: int = 0
    bos: int = 1
    eos: int = 2
    pad: int = 0

    @property
    def n_special(self) -> int:
        """Tokens at the beginning that no text is made of: control tokens and bytes."""
        return len(_SPECIAL) + len(_BYTES)


def make_vocabulary(n_vocab: int) -> RandomVocabulary:
    """Make a vocabulary in which our prompts take as many tokens as in Llama's own.

    Args:
        n_vocab: how many pieces; where there is room, common words are among them, then made-up ones.

    Raises:
        UsageError: the prompts' own words do not fit in.
    """
    starts, others = _of_prompts()
    n_pieces = n_vocab - len(_SPECIAL) - len(_BYTES) - len(_CHARACTERS)
    if len(starts) + len(others) > n_pieces:
        n_least = n_vocab - n_pieces + len(starts) + len(others)
        raise UsageError(
            f"a vocabulary of {n_vocab} is too small for the questions; n_vocab must be at least {n_least}"
        )
    for pieces, words in ((starts, [_SPACE + word for word in COMMON.split()]), (others, ENDINGS.split())):
        for word in words:
            new = [piece for piece in _beginnings(word) if piece not in pieces]
            if len(starts) + len(others) + len(new) <= n_pieces:
                pieces.update(dict.fromkeys(new))
    normal = [*starts, *others]
    unused = (word for word in _made_up(n_pieces) if word not in starts)
    normal += islice(unused, n_pieces - len(normal))
    normal += _CHARACTERS
    n_others = len(_SPECIAL) + len(_BYTES)
    return RandomVocabulary(
        pieces=[*_SPECIAL, *_BYTES, *normal],
        scores=[0.0] * n_others + [-float(rank) for rank in range(len(normal))],
        types=[*map(int, _SPECIAL.values()), *[int(TokenType.BYTE)] * 256, *[int(TokenType.NORMAL)] * len(normal)],
    )


def prompt_texts() -> list[str]:
    """Return every text that a bundle's own questions bring before the model, the labels too."""
    prompt, rating = default_prompt(), default_rating()
    questions = [rating.question, *rating.attributes.values(), prompt.critique, STRENGTHS, FAULTS, ADVICE]
    questions += [ATTRIBUTE.format(attribute=attribute) for attribute in rating.attributes]
    texts = [answer for answers in rating.labels.values() for answer in answers]
    for template in TEMPLATES.values():
        texts += [template.before_image, *map(template.after_image, questions), *map(template.later_turn, questions)]
    return list(dict.fromkeys(texts))


def _of_prompts() -> tuple[dict[str, None], dict[str, None]]:
    """Return the pieces of the prompts that begin words, and those that do not; dicts, for their order."""
    starts: dict[str, None] = {}
    others: dict[str, None] = {}
    for text in prompt_texts():
        for space, word in re.findall(f"({_SPACE}?)([A-Za-z]+)", _SPACE + text.replace(" ", _SPACE)):
            first, *rest = SPLIT.get(word, word).split()
            (starts if space else others).update(dict.fromkeys(_beginnings(space + first)))
            for piece in rest:
                others.update(dict.fromkeys(_beginnings(piece)))
    return starts, others


def _beginnings(piece: str) -> list[str]:
    """Return the pieces on the way to one, itself the last; single characters are pieces anyway."""
    return [piece[:n] for n in range(2, len(piece) + 1)]


def _made_up(n_least: int) -> Iterator[str]:
    """Yield words that no text holds, in a mixed order; more than ``n_least``."""
    n_syllables = 3
    while len(_SYLLABLES) ** n_syllables < 2 * n_least:
        n_syllables += 1
    n_words = len(_SYLLABLES) ** n_syllables
    for i in range(n_words):
        number, word = i * _STRIDE % n_words, ""
        for _ in range(n_syllables):
            number, syllable = divmod(number, len(_SYLLABLES))
            word += _SYLLABLES[syllable]
        yield _SPACE + word
