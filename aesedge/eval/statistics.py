"""Agreement of scores with people's ratings, and of two settings with each other; computed with SciPy.

Intervals are percentiles of a seeded bootstrap over photographs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

N_BOOTSTRAP = 2000
CONFIDENCE = 0.95
_BLOCK = 200  # resamples at a time: 200 x 900 ranks are a few MB


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
    return _with_interval(_spearman, scores, opinions, seed)


def pearson(scores: Sequence[float] | Array, opinions: Sequence[float] | Array, *, seed: int = 0) -> Estimate:
    """Return Pearson's linear correlation."""
    return _with_interval(_pearson, scores, opinions, seed)


def kendall(scores: Sequence[float] | Array, opinions: Sequence[float] | Array) -> float:
    """Return Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(scores, opinions).statistic)


def logistic_fit(scores: Sequence[float] | Array, opinions: Sequence[float] | Array) -> Array:
    """Return the scores mapped onto the ratings by VQEG's logistic function of four parameters, as PLCC is usual.

    Where the fit does not converge, a straight line is fitted instead.
    """
    from scipy.optimize import curve_fit

    x, y = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
    start = [y.max(), y.min(), x.mean(), max(float(x.std()), 1e-6) * np.sign(_pearson_or_one(x, y))]
    try:
        with np.errstate(over="ignore"):
            found, _ = curve_fit(_logistic, x, y, p0=start, maxfev=20_000)
            fitted: Array = _logistic(x, *found)
    except RuntimeError:
        fitted = np.asarray(np.polyval(np.polyfit(x, y, 1), x), np.float64)
    return fitted


def _logistic(x: Array, top: float, bottom: float, middle: float, width: float) -> Array:
    return bottom + (top - bottom) / (1 + np.exp(-(x - middle) / width))


def pair_accuracy(
    scores: Sequence[float] | Array, opinions: Sequence[float] | Array, edges: Sequence[float] = (0, 1, 2, 4, 10)
) -> list[PairAccuracy]:
    """Return the share of pairs in the right order, by the distance of their ratings in points of 10."""
    x, y = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
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


def srcc_difference(
    first: Sequence[float] | Array, second: Sequence[float] | Array, opinions: Sequence[float] | Array, *, seed: int = 0
) -> Estimate:
    """Return how much higher the rank correlation of the second scores is, resampled on the same photographs."""
    a, b, y = (np.asarray(v, np.float64) for v in (first, second, opinions))
    value = float(_spearman(b[None], y[None])[0] - _spearman(a[None], y[None])[0])
    drawn = _resampled(len(y), seed, lambda i: _spearman(b[i], y[i]) - _spearman(a[i], y[i]))
    return Estimate(value, *_interval(drawn))


def _with_interval(
    correlation: Callable[[Array, Array], Array],
    scores: Sequence[float] | Array,
    opinions: Sequence[float] | Array,
    seed: int,
) -> Estimate:
    x, y = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
    drawn = _resampled(len(x), seed, lambda i: correlation(x[i], y[i]))
    return Estimate(float(correlation(x[None], y[None])[0]), *_interval(drawn))


def _resampled(n: int, seed: int, figure: Callable[[npt.NDArray[np.int64]], Array]) -> Array:
    rng = np.random.default_rng(seed)
    return np.concatenate([figure(rng.integers(0, n, (_BLOCK, n))) for _ in range(N_BOOTSTRAP // _BLOCK)])


def _interval(drawn: Array) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return float(low), float(high)


def _spearman(x: Array, y: Array) -> Array:
    from scipy.stats import rankdata

    return _pearson(rankdata(x, axis=1), rankdata(y, axis=1))


def _pearson(x: Array, y: Array) -> Array:
    """Return the correlation of each row, NaN where one side does not vary."""
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(scale > 0, (x * y).sum(axis=1) / scale, np.nan)
    return found


def _pearson_or_one(x: Array, y: Array) -> float:
    return float(_pearson(x[None], y[None])[0]) or 1.0
