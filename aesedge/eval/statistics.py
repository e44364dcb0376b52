"""Agreement of scores with people's ratings, and of two settings with each other; computed with SciPy.

Intervals are percentiles of a seeded bootstrap over photographs.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

N_BOOTSTRAP = 2000
CONFIDENCE = 0.95
_ROUNDING = 1e-13
_BLOCK_VALUES = 1 << 20  # resamples times items at a time: a few arrays of 8 MB
MOST_IN_PAIRS = 3000
"""Photographs whose pairs are counted: 4.5 million pairs."""


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class PairAccuracy(NamedTuple):
    """How often the higher score is the photograph that people prefer, by how far their ratings are apart."""

    low: float
    """Least distance of the two ratings, in points of 10."""
    high: float
    share: float
    """0..1; a pair with equal scores counts half. NaN without pairs."""
    n_pairs: int


class CalibrationBin(NamedTuple):
    """Photographs with neighbouring scores: what the model says of them, and what people say."""

    score: float
    opinion: float
    n: int


def srcc(scores: Sequence[float] | Array, opinions: Sequence[float] | Array, *, seed: int = 0) -> Estimate:
    """Return Spearman's rank correlation; ties have mean ranks."""
    return _correlation(_RankCorrelation, scores, opinions, seed)


def pearson(scores: Sequence[float] | Array, opinions: Sequence[float] | Array, *, seed: int = 0) -> Estimate:
    """Return Pearson's linear correlation."""
    return _correlation(_Correlation, scores, opinions, seed)


def kendall(scores: Sequence[float] | Array, opinions: Sequence[float] | Array) -> float:
    """Return Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(scores, opinions).statistic)


def logistic_fit(scores: Sequence[float] | Array, opinions: Sequence[float] | Array) -> Array:
    """Return the scores mapped onto the ratings by VQEG's logistic function of four parameters, as PLCC is usual.

    Where the fit does not converge, or there are fewer than five photographs, a straight line is fitted instead.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    x, y = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
    start = [y.max(), y.min(), x.mean(), max(float(x.std()), 1e-6) * np.sign(_Correlation(x, y).value() or 1.0)]
    try:
        if len(x) <= len(start):
            raise RuntimeError  # noqa: TRY301 (as curve_fit tells that it did not converge)
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # about the parameters' variances, which are not used
            found, _ = curve_fit(_logistic, x, y, p0=start, maxfev=20_000)
            fitted: Array = _logistic(x, *found)
    except (RuntimeError, ValueError):
        fitted = np.asarray(np.polyval(np.polyfit(x, y, 1), x), np.float64)
    return fitted


def _logistic(x: Array, top: float, bottom: float, middle: float, width: float) -> Array:
    return bottom + (top - bottom) / (1 + np.exp(-(x - middle) / width))


def pair_accuracy(
    scores: Sequence[float] | Array, opinions: Sequence[float] | Array, edges: Sequence[float] = (0, 1, 2, 4, 10)
) -> list[PairAccuracy]:
    """Return the share of pairs in the right order, by the distance of their ratings in points of 10.

    Of more than :data:`MOST_IN_PAIRS` photographs that many are drawn at random, always the same ones.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
    if len(x) > MOST_IN_PAIRS:
        chosen = np.random.default_rng(0).choice(len(x), MOST_IN_PAIRS, replace=False)
        x, y = x[chosen], y[chosen]
    first, second = np.triu_indices(len(x), 1)
    distance = y[first] - y[second]
    right = np.where(x[first] == x[second], 0.5, np.sign(x[first] - x[second]) == np.sign(distance))
    found = []
    for low, high in pairwise(edges):
        inside = (np.abs(distance) > low) & (np.abs(distance) <= high)
        share = float(right[inside].mean()) if inside.any() else float("nan")
        found.append(PairAccuracy(low, high, share, int(inside.sum())))
    return found


def calibration(
    scores: Sequence[float] | Array, opinions: Sequence[float] | Array, n: int = 10
) -> list[CalibrationBin]:
    """Return means of scores and of ratings in bins of equally many photographs, by score."""
    x, y = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
    parts = np.array_split(np.argsort(x, kind="stable"), min(n, len(x)))
    return [CalibrationBin(float(x[part].mean()), float(y[part].mean()), len(part)) for part in parts]


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the exact two-sided p-value that two settings answer equally many of the same questions rightly."""
    from scipy.stats import binomtest

    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def mean(values: Sequence[float] | Sequence[bool] | Array, *, seed: int = 0) -> Estimate:
    """Return the mean, such as the share of right answers."""
    x = np.asarray(values, np.float64)
    drawn = _resampled(len(x), seed, lambda weights: weights @ x / len(x))
    return Estimate(float(x.mean()), *_interval(drawn))


def srcc_difference(
    first: Sequence[float] | Array, second: Sequence[float] | Array, opinions: Sequence[float] | Array, *, seed: int = 0
) -> Estimate:
    """Return how much higher the rank correlation of the second scores is, resampled on the same photographs."""
    before, after = _RankCorrelation(first, opinions), _RankCorrelation(second, opinions)
    drawn = _resampled(len(opinions), seed, lambda weights: after.of(weights) - before.of(weights))
    return Estimate(after.value() - before.value(), *_interval(drawn))


def _correlation(kind: type[_Correlation], scores: Any, opinions: Any, seed: int) -> Estimate:
    found = kind(scores, opinions)
    return Estimate(found.value(), *_interval(_resampled(len(scores), seed, found.of)))


def _resampled(n: int, seed: int, figure: Callable[[Array], Array]) -> Array:
    """Return a figure of every resample.

    Args:
        n: items to draw from, and to draw.
        seed: of the draws.
        figure: called with how often each item was drawn, [resamples, n]; returns the figure of each resample.
    """
    rng, block = np.random.default_rng(seed), max(1, min(N_BOOTSTRAP, _BLOCK_VALUES // n))
    found = []
    for begin in range(0, N_BOOTSTRAP, block):
        n_here = min(block, N_BOOTSTRAP - begin)
        drawn = rng.integers(0, n, (n_here, n)) + n * np.arange(n_here)[:, None]
        found.append(figure(np.bincount(drawn.ravel(), minlength=n_here * n).reshape(n_here, n).astype(np.float64)))
    return np.concatenate(found)


def _interval(drawn: Array) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return float(low), float(high)


class _Correlation:
    """Pearson's correlation of two variables under weights, which say how often each item counts."""

    def __init__(self, x: Sequence[float] | Array, y: Sequence[float] | Array) -> None:
        self._x, self._y = (np.asarray(v, np.float64) - np.mean(v) for v in (x, y))

    def value(self) -> float:
        """Return it where every item counts once."""
        return float(self.of(np.ones((1, len(self._x))))[0])

    def of(self, weights: Array) -> Array:
        """Return it for each row of weights [rows, items]; NaN where one side does not vary."""
        x, y, n = self._x, self._y, len(self._x)
        means = weights @ np.stack([x, y, x * x, y * y, x * y], axis=1) / n
        x_mean, y_mean, xx, yy, xy = means.T
        return _ratio(xy - x_mean * y_mean, xx - x_mean**2, yy - y_mean**2, xx * yy)


class _RankCorrelation(_Correlation):
    """Spearman's rank correlation under weights; ties have their mean rank."""

    def __init__(self, x: Sequence[float] | Array, y: Sequence[float] | Array) -> None:
        super().__init__(x, y)
        self._x_ranks, self._y_ranks = _Ranks(self._x), _Ranks(self._y)

    def of(self, weights: Array) -> Array:
        """Return it for each row of weights [rows, items]."""
        x, y = self._x_ranks.of(weights), self._y_ranks.of(weights)
        weighted = weights * x
        xy, xx, yy = (np.einsum("ij,ij->i", a, b) for a, b in ((weighted, y), (weighted, x), (weights * y, y)))
        return _ratio(xy, xx, yy, np.zeros_like(xy))  # sums of halves are exact


class _Ranks:
    """Ranks of a variable's items, minus their mean, when items are there several times or not at all."""

    def __init__(self, x: Array) -> None:
        self._order = np.argsort(x, kind="stable")
        is_new = np.diff(x[self._order], prepend=np.nan) != 0
        self._begins = np.flatnonzero(is_new)
        self._group = np.empty(len(x), np.intp)
        self._group[self._order] = np.cumsum(is_new) - 1

    def of(self, weights: Array) -> Array:
        """Return the ranks under each row of weights, [rows, items]."""
        counts = np.add.reduceat(weights[:, self._order], self._begins, axis=1)
        ranks = np.cumsum(counts, axis=1) - counts / 2 - weights.shape[1] / 2
        return np.take(ranks, self._group, axis=1)


def _ratio(xy: Array, xx: Array, yy: Array, scale: Array) -> Array:
    """Return correlations from covariances and variances; NaN where a variance is nothing but rounding."""
    product = xx * yy
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(product > _ROUNDING * scale, xy / np.sqrt(product), np.nan)
    return found
