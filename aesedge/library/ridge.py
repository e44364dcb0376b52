"""Ridge regression from a photo's mean image embedding to its score, with errors on whole bursts that were left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

COVERAGE = 0.9
_PENALTIES = np.logspace(-4, 2, 13)
_BIAS = 10.0  # of the kernel: large against the features' 1, so that the mean is hardly penalised
_FAR_OUT = 0.99


@dataclass(frozen=True)
class Ridge:
    """A fitted regression."""

    mean: Array
    scale: Array
    """Of the features."""
    basis: Array
    """Features of the photos it learnt from, standardised [n, d]."""
    weights: Array
    bias: float
    inverse: Array
    """Of the penalised kernel [n, n]."""
    correlation: float
    """Rank correlation of scores and their predictions by the other bursts."""
    half_width: float
    """Half the width of the interval that holds ``COVERAGE`` of the scores of bursts that were left out."""
    far_out: float
    """Variance above which a photo is unlike those learnt from: 99 % of these have less when they are left out."""

    def predict(self, features: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return predicted scores [n], and which photos are unlike all that was learnt from [n]."""
        x = (features - self.mean) / self.scale
        k = x @ self.basis.T / x.shape[1] + _BIAS
        variance = (x * x).mean(axis=1) + _BIAS - ((k @ self.inverse) * k).sum(axis=1)
        return x @ self.weights + self.bias, variance > self.far_out


def fit_ridge(features: Array, scores: Array, groups: npt.NDArray[np.int64]) -> Ridge:
    """Fit scores, with the penalty whose predictions of left-out groups are best.

    Args:
        features: float64 [n, d].
        scores: [n].
        groups: number of the burst that each photo belongs to [n]; frames of one burst are no independent photos.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    x = (features - mean) / scale
    kernel = x @ x.T / x.shape[1] + _BIAS
    values, vectors = np.linalg.eigh(kernel)
    values, centre = np.maximum(values, 0), float(scores.mean())
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]

    def residuals(penalty: float) -> Array:
        hat = (vectors * (values / (values + penalty))) @ vectors.T
        fitted = hat @ (scores - centre)
        found = np.empty(len(scores))
        for i in members:
            inside = np.eye(len(i)) - hat[np.ix_(i, i)]
            found[i] = np.linalg.lstsq(inside, (scores - centre - fitted)[i], rcond=None)[0]
        return found

    penalty = min(_PENALTIES, key=lambda one: float(np.square(residuals(one)).mean()))
    errors = residuals(penalty)
    inverse = (vectors / (values + penalty)) @ vectors.T
    alpha = inverse @ (scores - centre)
    alone = 1 / np.diag(inverse) - penalty  # variance of each photo when it is left out
    rank = min(len(scores), int(np.ceil((len(scores) + 1) * COVERAGE)))
    return Ridge(
        mean,
        scale,
        x,
        x.T @ alpha / x.shape[1],
        float(alpha.sum() * _BIAS + centre),
        inverse,
        rank_correlation(scores, scores - errors),
        float(np.sort(np.abs(errors))[rank - 1]),
        float(np.quantile(alone, _FAR_OUT)),
    )


def rank_correlation(first: Array, second: Array) -> float:
    """Return Spearman's correlation; 0 where one side does not vary. Ties have mean ranks."""
    a, b = (_ranks(values) for values in (first, second))
    if not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts - 1) / 2)[inverse]
    return ranks
