"""Measure how likely a given text is about a photo, to compare two settings or two ways through the caches.

Both sides score the same tokens, and a wrong image changes the likelihood of each of them. The text goes through the
scheduler, in the same batches as questions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from aesedge.engine.generation import teacher_forced
from aesedge.scheduling.requests import DecodeTokens, Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.scheduling.task import JobFuture

N_TOKENS = 48
"""Tokens of a critique whose likelihood is compared: about one or two sentences."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a given text is."""

    nll: tuple[float, ...]
    """Negative log-likelihood of each token, in nats."""
    digest: str
    """SHA-256 of all logits."""


def likelihood_of(logits: npt.NDArray[np.float32], text: Sequence[int]) -> Likelihood:
    """Return the likelihood of the n tokens of a text by their logits, float32 [n, n_vocab]."""
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    nll = np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(text)), text]
    return Likelihood(tuple(nll.tolist()), hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest())


def begin_reading(
    model: Model, photo: Photo, prompts: Sequence[Sequence[int]], text: Sequence[int]
) -> JobFuture[list[Likelihood]]:
    """Submit the measurement of a text after each of several prompts about a photo, in shared batches."""

    def work() -> Job[list[Likelihood]]:
        sequences, image = model.internals.sequences, photo.internals.image
        n_cells = sum(map(len, prompts)) + len(prompts) * len(text)
        seq_ids, _ = yield from sequences.acquire(image, n_forks=len(prompts), n_cells=n_cells)
        try:
            with sequences.pinned(image):
                requests = [
                    teacher_forced(seq_id, tokens, text) for seq_id, tokens in zip(seq_ids, prompts, strict=True)
                ]
                parts = [part for request in requests for part in request.parts]
                logits: npt.NDArray[np.float32] = yield DecodeTokens(parts, fetch=True)
        finally:
            sequences.release(seq_ids)
        return [likelihood_of(logits[i : i + len(text)], text) for i in range(0, len(logits), len(text))]

    return model.internals.scheduler.submit(work())


@dataclass(frozen=True)
class Reading:
    """Scores of one photo, and the likelihood of one text."""

    scores: list[float]
    """The score, and those of the attributes if they were asked for; 0..10."""
    text: Sequence[int]
    """Tokens of the text."""
    nll: float
    """Their mean negative log-likelihood, in nats."""


def read_photo(model: Model, photo: Photo, text: Sequence[int] | None = None, *, attributes: bool = True) -> Reading:
    """Score a photo, and measure the likelihood of a text about it.

    Args:
        model: open.
        photo: one of its photos.
        text: tokens; None takes the first tokens of the model's own critique.
        attributes: whether to score the attributes too.
    """
    critique = model.manifest.prompt.critique
    if text is None:
        text = photo.critique(max_tokens=N_TOKENS).tokens or [model.internals.llm.eos]
    if attributes:
        score, others = photo.score_and_attributes()
        scores = [score.score, *(rating.score for rating in others.values())]
    else:
        scores = [photo.score().score]
    (found,) = begin_reading(model, photo, [model.internals.question_tokens(critique)], text).wait()
    return Reading(scores, text, float(np.mean(found.nll)))


class Figures(TypedDict):
    """Differences between two settings, over several photos."""

    score_drift: float
    """Mean change of the scores, in points of 10."""
    worst_score_drift: float
    """Largest such mean of a single photo, in points of 10."""
    nll_change: float
    """Mean change of the negative log-likelihood, in nats a token."""
    n_photos: int


@dataclass
class Changes:
    """Collect differences between the readings of a setting and of the reference, photo by photo."""

    _drifts: list[float] = field(default_factory=list)
    _nll: list[float] = field(default_factory=list)

    def add(self, reference: Reading, other: Reading) -> None:
        """Add two readings of one photo."""
        self._drifts.append(float(np.mean(np.abs(np.subtract(other.scores, reference.scores)))))
        self._nll.append(other.nll - reference.nll)

    def figures(self) -> Figures:
        """Return the means; at least one photo was added."""
        return Figures(
            score_drift=fmean(self._drifts),
            worst_score_drift=max(self._drifts),
            nll_change=fmean(self._nll),
            n_photos=len(self._drifts),
        )
