"""Define the stages of the parity proof: figures of two answers, and their limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float32]

N_GREEDY = 32

# The same PIL resampling on both sides; what is left is the rounding of the normalisation.
PIXELS_MAX_ABS = 1e-5
# float32 on both sides, sums in another order. Relative to the largest embedding: trained towers have a few rows far
# above the rest, and their absolute error grows with them.
EMBEDDINGS_MAX_RELATIVE = 1e-4
EMBEDDINGS_MIN_COSINE = 0.99999
# llama.cpp keeps weights, KV and the inputs of its products in F16, PyTorch all in float32: 2e-5 and 3e-3 were measured
# on random weights, less on trained ones. One wrong layer gives 0.1 and more.
LOGITS_MAX_KL = 1e-3
LOGITS_MAX_RELATIVE = 1e-2
"""Largest difference of logits (less their mean), relative to the spread max - min of the reference's."""
# What the same noise can turn round between the two likeliest tokens.
TIE_MAX_RELATIVE = 2e-3

VISION_LIMITS: dict[str, dict[str, float]] = {
    "fp32": {"max_relative_diff": EMBEDDINGS_MAX_RELATIVE, "min_cosine": EMBEDDINGS_MIN_COSINE},
    "fp16": {"min_cosine": 0.9999},
    "int8": {"min_cosine": 0.99},
}
"""Vision precision to its limits against the reference; an exporter may state stricter ones."""

FIRST, GREEDY, SCORE = "first-token logits", "greedy tokens", "score"
# F16, over all positions: llama.cpp publishes a mean KL of 2.5e-5 and, over 140,000 positions, a greatest one of 0.012
# between two half-precision files of Llama-3-8B, and 99.74 % equal likeliest tokens (tools/perplexity/README.md).
_F16 = {
    FIRST: {"mean_kl": LOGITS_MAX_KL, "max_relative_diff": LOGITS_MAX_RELATIVE},
    GREEDY: {"mean_kl": LOGITS_MAX_KL, "max_kl": 0.02, "min_share_equal_or_tied": 0.97},
    SCORE: {"max_score_drift": 0.1},
}
LANGUAGE_LIMITS: dict[str, dict[str, dict[str, float]]] = {
    "F32": _F16,
    "F16": _F16,
    # llama.cpp rounds the other factor of each product to bfloat16 too, eight times as coarse as F16.
    "BF16": {
        FIRST: {"mean_kl": 5e-3, "max_relative_diff": 4e-2},
        GREEDY: {"mean_kl": 5e-3, "max_kl": 0.1, "min_share_equal_or_tied": 0.95},
        SCORE: {"max_score_drift": 0.3},
    },
    # Published: 0.0004 (Llama-2-7B), 0.0014 (Llama-3-8B) on average, 98.8 % and 97.7 % equal. Random weights go up to
    # 0.01 and 0.04 before they are chaotic.
    "Q8_0": {
        FIRST: {"mean_kl": 2e-2, "max_relative_diff": 1e-1},
        GREEDY: {"mean_kl": 2e-2, "min_share_equal_or_tied": 0.9},
        SCORE: {"max_score_drift": 0.5},
    },
}
"""Type of the bundle's most precise language file to the limits of its stages. One wrong layer gives a KL of 0.1 and
more, so they part right from wrong; of lower types they would not, and those have a verdict alone."""


@dataclass
class Stage:
    """Figures of one comparison, the worst over all photos, next to their limits."""

    name: str
    limits: dict[str, float]
    """Figure to the worst value allowed: a least value for ``min_...`` and ``n_...``, a greatest one otherwise."""
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """Keep the worse of the figures so far and these."""
        for key, value in figures.items():
            before = self.figures.get(key, value)
            is_worse = value < before if _is_least(key) else value > before
            # min() and max() would lose a value that is not a number.
            self.figures[key] = value if is_worse or math.isnan(value) else before

    def check(self) -> None:
        """Compare the figures with the limits.

        Raises:
            ParityError: one is beyond its limit, or is not a number.
        """
        for key, limit in self.limits.items():
            value = self.figures[key]
            if not (value >= limit if _is_least(key) else value <= limit):
                raise ParityError(
                    f"parity stage '{self.name}': {key} is {value:.6g}, the limit is {limit:.6g}; nothing was written, "
                    "please report this with the checkpoint's name"
                )


def _is_least(key: str) -> bool:
    return key.startswith(("min_", "n_"))


@dataclass(frozen=True)
class Positions:
    """How two language models differ at each of n positions."""

    kl: npt.NDArray[np.float64]
    """Of ours from the reference, in nats."""
    relative_diff: npt.NDArray[np.float64]
    """Largest difference of logits (less their mean), relative to the spread max - min of the reference's."""
    equal: npt.NDArray[np.bool_]
    """Whether the likeliest token is the same."""
    tied: npt.NDArray[np.bool_]
    """Whether it is another one, and the reference prefers its own by ``TIE_MAX_RELATIVE`` of its spread at most."""


def compare_positions(ours: FloatArray, theirs: FloatArray) -> Positions:
    """Compare next-token distributions, logits float32 [n, n_vocab], position by position.

    Raises:
        ParityError: the shapes differ.
    """
    _check_shapes(ours, theirs)
    p, q = _log_softmax(theirs), _log_softmax(ours)
    spread = theirs.max(axis=1) - theirs.min(axis=1)
    spread = np.where(spread > 0, spread, 1.0)
    diff = ours - ours.mean(axis=1, keepdims=True) - (theirs - theirs.mean(axis=1, keepdims=True))
    our_choice, their_choice = ours.argmax(axis=1), theirs.argmax(axis=1)
    n = np.arange(len(ours))
    lead = theirs[n, their_choice] - theirs[n, our_choice]
    equal = our_choice == their_choice
    return Positions(
        # Rounding alone can make a divergence of nearly equal distributions negative.
        kl=np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0),
        relative_diff=np.abs(diff).max(axis=1) / spread,
        equal=equal,
        tied=~equal & (lead <= TIE_MAX_RELATIVE * spread),
    )


def compare_rows(ours: FloatArray, theirs: FloatArray) -> dict[str, float]:
    """Compare image embeddings, float32 [n_image_tokens, n_embd]: absolutely, relative to the largest, by direction.

    Raises:
        ParityError: the shapes differ.
    """
    worst = max_abs_diff(ours, theirs)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)  # float32's steps near 1 are as large as fp16's error
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return {
        "max_abs_diff": worst,
        "max_relative_diff": worst / float(np.abs(theirs).max()),
        "min_cosine": float(((a * b).sum(axis=1) / norms).min()),
    }


def max_abs_diff(ours: FloatArray, theirs: FloatArray) -> float:
    """Return the largest absolute difference of two arrays.

    Raises:
        ParityError: the shapes differ.
    """
    _check_shapes(ours, theirs)
    return float(np.abs(ours - theirs).max())


def _check_shapes(ours: FloatArray, theirs: FloatArray) -> None:
    if ours.shape != theirs.shape:
        raise ParityError(f"parity: the bundle has the shape {list(ours.shape)}, its reference {list(theirs.shape)}")


def _log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Return log probabilities of logits, [n, n_vocab]."""
    x = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def as_records(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return the stages as plain JSON values, for the manifest."""
    return [{"stage": s.name, "figures": s.figures, "limits": s.limits} for s in stages]
