"""Learn from a person's stars what the score does not say, if days that were left out gain by it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aesedge.errors import XmpError
from aesedge.library.ridge import fit_ridge, rank_correlation
from aesedge.xmp.person import person_values
from aesedge.xmp.photo_xmp import XmpReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from aesedge.library.records import JudgedPhoto

    Array = npt.NDArray[np.float64]

LEAST_PHOTOS, LEAST_DAYS = 50, 3
_DRAWS = 2000
_ALPHA = 0.05
_FEW_DAYS = 6


class RatedPhoto(NamedTuple):
    """A photo with a person's stars."""

    photo: JudgedPhoto
    stars: int
    """0 for a rejected photo, to 5."""
    day: int
    """Number of the day on which it was taken."""


@dataclass(frozen=True)
class Taste:
    """What a person's stars say beyond the score."""

    n_photos: int
    n_days: int
    error_of_score: float
    """Root of the mean squared error, in stars, on days that were left out: of stars fitted to the score alone."""
    error_of_taste: float
    correlation_of_score: float
    """Rank correlation with the person's stars, on days that were left out."""
    correlation_of_taste: float
    has_gain: bool
    """Whether taste is nearer to the person's stars than the score is, beyond chance (95 %)."""
    predict: Callable[[Array, Array], Array]
    """Scores [n] and mean rows [n, d] to stars [n]."""


def rated_photos(
    photos: Iterable[JudgedPhoto], failed: Callable[[str, XmpError], None] = lambda *_: None
) -> list[RatedPhoto]:
    """Return the photos that the model has judged, a person has rated, and a camera has dated; each picture once."""
    reader = XmpReader("auto")
    found: dict[str, RatedPhoto] = {}
    for photo in photos:
        if photo.score_from != "model" or photo.about.taken_at is None:
            continue
        try:
            person = person_values(reader.read_files(photo.files))
        except XmpError as error:
            failed(photo.path, error)
            continue
        stars = person.stars
        if stars is not None and not _is_unrated(person.rating):
            day = dt.datetime.fromtimestamp(photo.about.taken_at, dt.timezone.utc).toordinal()
            found[photo.key] = RatedPhoto(photo, stars, day)
    return list(found.values())


def _is_unrated(rating: str | None) -> bool:
    """Whether a person has taken stars away: that says nothing of the photo."""
    return rating in {None, "", "0"}


def learn_taste(rated: Sequence[RatedPhoto], mean_rows: Array) -> Taste:
    """Fit a person's stars as a line on the score, and what is left by ridge regression on the mean rows.

    Args:
        rated: at least two days.
        mean_rows: of their image embeddings [n, d].
    """
    stars = np.array([float(one.stars) for one in rated])
    scores = np.array([one.photo.score for one in rated])
    days = np.array([one.day for one in rated])
    by_score, by_taste = np.empty(len(rated)), np.empty(len(rated))
    for day in np.unique(days):
        out = days == day
        line, taste = _fit(scores[~out], mean_rows[~out], stars[~out], days[~out])
        by_score[out], by_taste[out] = line(scores[out]), taste(scores[out], mean_rows[out])
    gains = np.square(by_score - stars) - np.square(by_taste - stars)
    _, predict = _fit(scores, mean_rows, stars, days)
    return Taste(
        n_photos=len(rated),
        n_days=len(np.unique(days)),
        error_of_score=_rms(by_score - stars),
        error_of_taste=_rms(by_taste - stars),
        correlation_of_score=rank_correlation(by_score, stars),
        correlation_of_taste=rank_correlation(by_taste, stars),
        has_gain=_is_beyond_chance(gains, days)
        and rank_correlation(by_taste, stars) > rank_correlation(by_score, stars),
        predict=predict,
    )


def _fit(
    scores: Array, rows: Array, stars: Array, days: npt.NDArray[np.int64]
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]:
    spread = scores.std()
    slope = float(np.mean((scores - scores.mean()) * (stars - stars.mean())) / spread**2) if spread > 0 else 0.0
    offset = float(stars.mean() - slope * scores.mean())

    def line(x: Array) -> Array:
        return np.clip(offset + slope * x, 0, 5)

    if len(np.unique(days)) < 2:
        return line, lambda x, _rows: line(x)
    ridge = fit_ridge(rows, stars - (offset + slope * scores), days)

    def taste(x: Array, more: Array) -> Array:
        return np.clip(offset + slope * x + ridge.predict(more)[0], 0, 5)

    return line, taste


def _is_beyond_chance(gains: Array, days: npt.NDArray[np.int64]) -> bool:
    """Whether the mean gain stays above 0 when days are drawn again.

    Of few days the photos are drawn again, and every day must gain: photos of one day are alike.
    """
    rng = np.random.default_rng(0)
    sums = np.array([gains[days == day].sum() for day in np.unique(days)])
    if len(sums) < _FEW_DAYS and not (sums > 0).all():
        return False
    units = sums if len(sums) >= _FEW_DAYS else gains
    drawn = units[rng.integers(0, len(units), (_DRAWS, len(units)))].mean(axis=1)
    return bool(np.quantile(drawn, _ALPHA) > 0 and np.count_nonzero(sums > 0) * 2 > len(sums))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
