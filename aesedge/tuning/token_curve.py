"""What fewer image tokens cost on photos: scores and likelihoods against all of them; knows no manifest, no limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aesedge.doctor.probe import prompt, reading
from aesedge.manifest import TokenPoint
from aesedge.reply import Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aesedge.engine import Model
    from aesedge.photo import Photo

N_SAID = 48
"""Tokens of the critique whose likelihood is compared: about what a sentence or two have."""
_SHARES = (3 / 4, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 9, 1 / 16, 1 / 36)


def budgets(least: int, most: int) -> list[int]:
    """Return the numbers of image tokens that are measured, all of them first."""
    wanted = [most, *(round(share * most) for share in _SHARES), least]
    return sorted({n for n in wanted if least <= n <= most}, reverse=True)


def measure(
    model: Model, photos: Sequence[Path], numbers: Sequence[int], progress: Callable[[float], None]
) -> list[TokenPoint]:
    """Compare every number of image tokens with the first one.

    Args:
        model: with at least as much room as the first number needs.
        photos: the user's own, one or more.
        numbers: image tokens, the reference first.
        progress: called with the share done, 0..1.

    Returns:
        A point for each number but the first.
    """
    drifts: dict[int, list[float]] = {n: [] for n in numbers}
    changes: dict[int, list[float]] = {n: [] for n in numbers}
    for i, path in enumerate(photos):
        said: Sequence[int] = ()
        expected: list[float] = []
        likely = 0.0
        for j, n in enumerate(numbers):
            with model.look(path, image_tokens=n) as photo:
                if n == numbers[0]:
                    critique = photo.critique(Writing(max_tokens=N_SAID))
                    critique.read()
                    said = critique.tokens or [model.llm.eos]
                    expected, likely = _scores(photo), _nll(model, photo, said)
                drifts[n].append(float(np.mean(np.abs(np.subtract(_scores(photo), expected)))))
                changes[n].append(_nll(model, photo, said) - likely)
            progress((i + (j + 1) / len(numbers)) / len(photos))
    return [
        TokenPoint(
            n=n,
            score_drift=float(np.mean(drifts[n])),
            worst_score_drift=float(np.max(drifts[n])),
            nll_change=float(np.mean(changes[n])),
            n_photos=len(photos),
        )
        for n in numbers[1:]
    ]


def _scores(photo: Photo) -> list[float]:
    score, attributes = photo.score_and_attributes()
    return [score.score, *(rating.score for rating in attributes.values())]


def _nll(model: Model, photo: Photo, said: Sequence[int]) -> float:
    """Return the mean negative log-likelihood of a critique's tokens, in nats."""
    work = reading(model.residents, photo.image, [prompt(model)], said)
    (text,) = model.scheduler.submit(work).wait()
    return float(np.mean(text.nll))
