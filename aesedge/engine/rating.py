"""Compute a score from the probabilities of labels.

The score is the expected weight of the label that the model would answer, 10 * sum(weight * p), with p normalised
over the labels (the form of Q-Align's score, with AesBench's High, Medium and Low as labels). It is the model's
opinion, not a mean opinion score of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.engine.results import Rating
from aesedge.errors import BundleFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class LabelTokens:
    """The labels of a bundle as token sequences."""

    answers: dict[str, tuple[Tokens, ...]]
    """Label to its token sequences."""
    weights: Mapping[str, float]

    @property
    def prefixes(self) -> list[Tokens]:
        """Proper prefixes of answers of several tokens; each must be decoded to read the token after it."""
        found = (a[:n] for answers in self.answers.values() for a in answers for n in range(1, len(a)))
        return list(dict.fromkeys(found))


def label_tokens(
    labels: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    tokenize: Callable[[str], Sequence[int]],
    where: object = "manifest",
) -> LabelTokens:
    """Tokenize labels.

    Args:
        labels: label to the answers that stand for it.
        weights: label to its weight, 0 to 1.
        tokenize: the vocabulary's; it adds the space between ``ASSISTANT:`` and the answer.
        where: the file that names them, for messages.

    Raises:
        BundleFormatError: an answer has no tokens, or is a prefix of another, so that their probabilities overlap.
    """
    answers = {label: tuple(dict.fromkeys(tuple(tokenize(t)) for t in texts)) for label, texts in labels.items()}
    everything = [a for of_label in answers.values() for a in of_label]
    for i, one in enumerate(everything):
        for j, other in enumerate(everything):
            if not one or (i != j and other[: len(one)] == one):
                raise BundleFormatError(
                    f"{where}: two answers of the rating begin with the same tokens, or one is empty; "
                    f"the labels are {str(dict(labels))[:300]}"
                )
    return LabelTokens(answers, weights)


def rate(
    labels: LabelTokens, first: npt.NDArray[np.float32], after: Mapping[Tokens, npt.NDArray[np.float32]]
) -> Rating:
    """Compute a rating from logits.

    Args:
        labels: the bundle's.
        first: logits where the answer begins, float32 [n_vocab].
        after: for every prefix of ``labels.prefixes``, the logits that follow it, float32 [n_vocab].
    """
    log_first = _log_softmax(first)
    log_after = {prefix: _log_softmax(logits) for prefix, logits in after.items()}

    def log_p(answer: Tokens) -> float:
        steps = (log_first if n == 0 else log_after[answer[:n]] for n in range(len(answer)))
        return float(sum(step[token] for step, token in zip(steps, answer, strict=True)))

    logs = {label: np.logaddexp.reduce([log_p(a) for a in answers]) for label, answers in labels.answers.items()}
    total = np.logaddexp.reduce(list(logs.values()))
    p = {label: float(np.exp(log - total)) for label, log in logs.items()}
    return Rating(
        score=10.0 * sum(p[label] * labels.weights[label] for label in p),
        probabilities=p,
        entropy=float(-sum(q * np.log(q) for q in p.values() if q > 0)) + 0.0,
        off_label=float(max(0.0, -np.expm1(total))),
    )


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max()
    result: npt.NDArray[np.float64] = x - np.log(np.exp(x).sum())
    return result
