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
"""Tokens of a critique whose likelihood is compared: about what a sentence or two have."""


@dataclass(frozen=True)
class Likelihood:
    """What the model thinks of a given text about a photo."""

    nll: tuple[float, ...]
    """Negative log-likelihood of each token, in nats."""
    digest: str
    """SHA-256 of all logits."""


def likelihood_of(logits: npt.NDArray[np.float32], text: Sequence[int]) -> Likelihood:
    """Return what logits, float32 [n, n_vocab], say of the n tokens of a text."""
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    nll = np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(text)), text]
    return Likelihood(tuple(nll.tolist()), hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest())


def begin_reading(
    model: Model, photo: Photo, prompts: Sequence[Sequence[int]], text: Sequence[int]
) -> JobFuture[list[Likelihood]]:
    """Begin to read a text after each of several prompts about a photo, all at once."""

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
    """What a model says of one photo."""

    scores: list[float]
    """The score, and those of the attributes if they were asked for; 0..10."""
    text: Sequence[int]
    """Tokens of the text that was read."""
    nll: float
    """Their mean negative log-likelihood, in nats."""


def read_photo(model: Model, photo: Photo, text: Sequence[int] | None = None, *, attributes: bool = True) -> Reading:
    """Score a photo, and read a text about it.

    Args:
        model: open.
        photo: one of its photos.
        text: tokens; None takes the first ones of the critique that the model itself writes.
        attributes: whether the attributes are scored too.
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
    """How far readings of several photos are apart."""

    score_drift: float
    """Mean change of the scores, in points of 10."""
    worst_score_drift: float
    """Largest mean change of a photo."""
    nll_change: float
    """Mean change of the negative log-likelihood, in nats a token."""
    n_photos: int


@dataclass
class Changes:
    """Collects how far a setting's readings are from the reference's, photo by photo."""

    _drifts: list[float] = field(default_factory=list)
    _nll: list[float] = field(default_factory=list)

    def add(self, reference: Reading, other: Reading) -> None:
        """Compare two readings of a photo."""
        self._drifts.append(float(np.mean(np.abs(np.subtract(other.scores, reference.scores)))))
        self._nll.append(other.nll - reference.nll)

    def figures(self) -> Figures:
        """Sum up; there was one photo at least."""
        return Figures(
            score_drift=fmean(self._drifts),
            worst_score_drift=max(self._drifts),
            nll_change=fmean(self._nll),
            n_photos=len(self._drifts),
        )
