"""Score rated photographs, and say how far the scores agree with people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.errors import AesedgeError, UsageError
from aesedge.eval import statistics
from aesedge.eval.item_log import ItemLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aesedge.engine.model import Model
    from aesedge.engine.results import PhotoResult
    from aesedge.eval.ratings_table import RatedPhoto
    from aesedge.eval.statistics import Array, CalibrationBin, Estimate, PairAccuracy

_LEAST_PHOTOS = 3


@dataclass(frozen=True)
class ScoredPhoto:
    """A photograph with the model's score and people's opinion, both 0 to 10."""

    photo: str
    score: float
    opinion: float
    attributes: dict[str, float]
    is_new: bool = True
    """Whether it was scored now, and not by an earlier run."""

    @property
    def key(self) -> str:
        """Name of the photograph."""
        return self.photo


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the scores of a bundle agree with people's ratings."""

    n: int
    srcc: Estimate
    """Spearman's rank correlation."""
    plcc: Estimate
    """Pearson's correlation after the logistic fit of four parameters."""
    pearson: Estimate
    """Pearson's correlation of the scores as they are."""
    kendall: float
    mean_error: float
    """Mean of score minus opinion, in points of 10."""
    mean_absolute_error: float
    pairs: list[PairAccuracy]
    calibration: list[CalibrationBin]
    attributes: dict[str, Estimate]
    """Attribute to the rank correlation of its score with people's ratings."""
    line: tuple[float, float]
    """Slope and intercept of the straight line from scores to opinions."""


@dataclass(frozen=True)
class _Record:
    """A line of the log."""

    state: list[int]
    score: float
    attributes: dict[str, float]


def settings_of(model: Model) -> dict[str, Any]:
    """Return what changes a bundle's scores: its files by hash, and how they are run."""
    manifest, plan = model.manifest, model.internals.plan
    hashes = {
        f"{role}_sha256": file.sha256
        for role, type_ in (("llm", model.gguf), ("vision", model.vision))
        if (file := manifest.file(role, type_)) is not None  # type: ignore[arg-type]
    }
    return {
        "bundle": manifest.name,
        "gguf": model.gguf.lower(),
        "vision": model.vision.lower(),
        "image_tokens": model.n_image_tokens,
        "kv_type": plan.kv_type,
        "question": manifest.rating.question,
        **hashes,
    }


def score_photos(
    model: Model, photos: Sequence[RatedPhoto], log: Path | None, problems: Callable[[str, AesedgeError], None]
) -> Iterator[ScoredPhoto]:
    """Score the photographs, those that an earlier run has not scored.

    Args:
        model: the loaded bundle.
        photos: what to score.
        log: where each score is kept as it comes, so that the next run goes on; None keeps none.
        problems: called with the path and the error of each photograph that cannot be scored.

    Yields:
        Every photograph with its score: those of the log, then new ones, in the order of the table.

    Raises:
        UsageError: the log is one of other settings.
    """
    with ItemLog(log, settings_of(model), _Record) as items:
        new = []
        for photo in photos:
            record = items.done.get(photo.name)
            if record is not None and record.state == _state(photo.path):
                yield ScoredPhoto(photo.name, record.score, photo.opinion, record.attributes, is_new=False)
            else:
                new.append(photo)
        outcomes = model.score_many([photo.path for photo in new])
        for photo, outcome in zip(new, outcomes, strict=True):
            if outcome.value is None:
                problems(str(photo.path), outcome.error or AesedgeError("no score"))
                continue
            scored = _scored(photo, outcome.value)
            items.add(photo.name, _Record(_state(photo.path), scored.score, scored.attributes))
            yield scored


def _scored(photo: RatedPhoto, result: PhotoResult) -> ScoredPhoto:
    attributes = {name: rating.score for name, rating in result.attributes.items()}
    return ScoredPhoto(photo.name, result.score, photo.opinion, attributes)


def _state(path: Path) -> list[int]:
    """Return size and time of a file: with another one, its photograph is scored again."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def agreement(scored: Sequence[ScoredPhoto], *, seed: int = 0) -> Agreement:
    """Compare scores with opinions.

    Raises:
        UsageError: there are too few photographs, or all have one score or one opinion.
    """
    scores = np.array([photo.score for photo in scored])
    opinions = np.array([photo.opinion for photo in scored])
    if len(scored) < _LEAST_PHOTOS:
        raise UsageError(f"{len(scored)} photographs were scored; at least {_LEAST_PHOTOS} are needed to compare them")
    for values, name in ((scores, "score"), (opinions, "opinion of people")):
        if np.ptp(values) == 0:
            raise UsageError(f"all {len(scored)} photographs have the same {name}; nothing can be compared")
    slope, intercept = np.polyfit(scores, opinions, 1)
    return Agreement(
        n=len(scored),
        srcc=statistics.srcc(scores, opinions, seed=seed),
        plcc=statistics.pearson(statistics.logistic_fit(scores, opinions), opinions, seed=seed),
        pearson=statistics.pearson(scores, opinions, seed=seed),
        kendall=statistics.kendall(scores, opinions),
        mean_error=float((scores - opinions).mean()),
        mean_absolute_error=float(np.abs(scores - opinions).mean()),
        pairs=statistics.pair_accuracy(scores, opinions),
        calibration=statistics.calibration(scores, opinions),
        attributes=_attribute_correlations(scored, opinions, seed),
        line=(float(slope), float(intercept)),
    )


def _attribute_correlations(scored: Sequence[ScoredPhoto], opinions: Array, seed: int) -> dict[str, Estimate]:
    found = {}
    for name in scored[0].attributes:
        values = np.array([photo.attributes[name] for photo in scored])
        if np.ptp(values) > 0:
            found[name] = statistics.srcc(values, opinions, seed=seed)
    return found


def to_builtins(found: Agreement) -> dict[str, Any]:
    """Return the figures for JSON; an interval is a list of value, low and high."""
    return asdict(found) | {
        "pairs": [pair._asdict() for pair in found.pairs],
        "calibration": [part._asdict() for part in found.calibration],
    }
