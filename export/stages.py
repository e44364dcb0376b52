"""What parity compares and what it allows: figures of two answers, limits beside each stage; runs no model."""

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
Answer = tuple[list[int], list[FloatArray]]
"""Tokens, and the logits float32 [n_vocab] that each was chosen from."""

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


def compare_logits(ours: FloatArray, theirs: FloatArray) -> dict[str, float]:
    """Compare two next-token distributions.

    Args:
        ours: logits, float32 [n_vocab].
        theirs: the reference's.

    Returns:
        ``kl`` of ours from theirs in nats, ``max_relative_diff`` (see LOGITS_MAX_RELATIVE) and ``n_argmax_equal``
        (1 or 0).
    """
    p, q = _log_softmax(theirs), _log_softmax(ours)
    diff = (ours - ours.mean()) - (theirs - theirs.mean())
    return {
        "kl": float(np.sum(np.exp(p) * (p - q))),
        "max_relative_diff": float(np.abs(diff).max()) / _spread(theirs),
        "n_argmax_equal": int(ours.argmax() == theirs.argmax()),
    }


def _spread(logits: FloatArray) -> float:
    """Return max - min, and 1 where all are equal."""
    return float(logits.max() - logits.min()) or 1.0


def compare_rows(ours: FloatArray, theirs: FloatArray) -> dict[str, float]:
    """Compare image embeddings, float32 [n_image_tokens, n_embd]: absolutely, relative to the largest, by direction.

    Raises:
        ParityError: the shapes differ.
    """
    worst = max_abs_diff(ours, theirs)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return {
        "max_abs_diff": worst,
        "max_relative_diff": worst / float(np.abs(theirs).max()),
        "min_cosine": float(((ours * theirs).sum(axis=1) / norms).min()),
    }


def compare_greedy(ours: Answer, theirs: Answer) -> dict[str, float]:
    """Compare two greedy continuations of one prompt.

    Two texts are comparable up to their first difference. Where the reference's two likeliest tokens are closer than
    ``TIE_MAX_RELATIVE``, both are right, and the rest counts as tied.

    Returns:
        ``n_equal`` tokens, ``n_equal_or_tied`` tokens, and ``max_kl`` over the steps that are comparable.
    """
    steps = list(zip(*ours, *theirs, strict=True))
    differing = (i for i, (our, _, their, _) in enumerate(steps) if our != their)
    n_equal = next(differing, len(steps))
    kl = max(compare_logits(our, their)["kl"] for _, our, _, their in steps[: n_equal + 1])
    tied = False
    if n_equal < len(steps):
        our_token, _, their_token, logits = steps[n_equal]
        tied = float(logits[their_token] - logits[our_token]) <= TIE_MAX_RELATIVE * _spread(logits)
    return {"n_equal": n_equal, "n_equal_or_tied": len(steps) if tied else n_equal, "max_kl": kl}


def max_abs_diff(ours: FloatArray, theirs: FloatArray) -> float:
    """Return the largest absolute difference of two arrays.

    Raises:
        ParityError: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ParityError(f"parity: the bundle has the shape {list(ours.shape)}, PyTorch {list(theirs.shape)}")
    return float(np.abs(ours - theirs).max())


def _log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64) - float(logits.max())
    return np.asarray(x - np.log(np.exp(x).sum()))


def as_records(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Return the stages as plain JSON values, for the manifest."""
    return [{"stage": s.name, "figures": s.figures, "limits": s.limits} for s in stages]
