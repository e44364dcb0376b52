"""Log-probabilities of the tokens of an answer, from the model's own distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from aesedge.llm import LanguageModel


class TokenLogprob(NamedTuple):
    """A token of an answer."""

    piece: bytes
    """Its text, which may be a part of a character."""
    logprob: float
    """Natural logarithm of its probability, before temperature, top_p and grammar."""
    top: tuple[tuple[bytes, float], ...]
    """The likeliest tokens with theirs, the likeliest first."""


def token_logprob(model: LanguageModel, logits: npt.NDArray[np.float32], token: int, n_top: int) -> TokenLogprob:
    """Return the log-probability of a token.

    Args:
        model: for the texts of tokens.
        logits: from which it was chosen, float32 [n_vocab].
        token: which.
        n_top: how many of the likeliest to report beside it.
    """
    wide = logits.astype(np.float64)
    logprobs = wide - (wide.max() + np.log(np.exp(wide - wide.max()).sum()))
    likeliest = np.argsort(-logprobs, kind="stable")[:n_top]
    top = tuple((model.piece(int(i)), float(logprobs[i])) for i in likeliest)
    return TokenLogprob(model.piece(token), float(logprobs[token]), top)
