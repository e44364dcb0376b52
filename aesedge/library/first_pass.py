"""Let the vision tower choose which photos the language model judges.

A regression on the tower's mean embedding learns the model's own scores of this library. What it alone has judged is an
estimate with an interval, which never becomes a star.
"""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aesedge.errors import AesedgeError
from aesedge.library.bursts import group_shots, is_bracket
from aesedge.library.judging import Recognised, keep_failure, keep_files, mean_row_of
from aesedge.library.records import Judgement
from aesedge.library.ridge import fit_ridge
from aesedge.system.ordered_map import batched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from aesedge.library.catalogue_writer import CatalogueWriter
    from aesedge.library.finding import Picture
    from aesedge.library.judging import Event, Judge
    from aesedge.library.ridge import Ridge

    Array = npt.NDArray[np.float64]

LEAST_PHOTOS = 400
"""With fewer, what has to be judged to learn from leaves too little to gain."""
LEAST_CORRELATION = 0.8
_SAMPLE_SHARE, _LEAST_SAMPLE, _MOST_SAMPLE = 0.05, 40, 200
_MOST_LEARNT = 1000
_AUDIT_SHARE = 0.02
_FAR_OUT_SHARE = 0.02
_BURST_SHARE = 0.02
_BLOCK = 2048  # photos whose embeddings are in memory at once
_BEST = 0.1
"""Part of the photos whose loss is estimated."""


class Estimated(NamedTuple):
    """A photo with a score of the first pass."""

    name: str


def judge_by_first_pass(
    judge: Judge, catalogue: CatalogueWriter, settings: int, pictures: Sequence[Picture], share: float
) -> Iterator[Event | Estimated | str]:
    """Judge the share of the pictures that is likely to be best, and estimate the others.

    Args:
        judge: the model.
        catalogue: where results are kept.
        settings: number of the settings that the model has.
        pictures: to be judged.
        share: 0..1, of the pictures that go on to the language model; a sample and an audit come on top.

    Yields:
        What came of each picture, and sentences about the whole.
    """
    if len(pictures) < LEAST_PHOTOS:
        yield f"first pass: off, {len(pictures)} photos are too few to learn from; all are judged"
        yield from judge.judge(pictures)
        return
    by_content: dict[int, Picture] = {}
    yield from _look(judge, catalogue, settings, pictures, by_content)
    yield from _FirstPass(judge, catalogue, settings, by_content).run(share)


def _look(
    judge: Judge,
    catalogue: CatalogueWriter,
    settings: int,
    pictures: Sequence[Picture],
    by_content: dict[int, Picture],
) -> Iterator[Event]:
    """Keep the mean embedding of every picture that has none yet."""
    unseen = []
    for picture in pictures:
        known = catalogue.file(picture.name, settings)
        if known is None or known.state != picture.file.state or not catalogue.has_mean_row(known.content, settings):
            unseen.append(picture)
        elif known.score_from != "model":
            by_content.setdefault(known.content, picture)
    for picture, found, rows in judge.encode(unseen):
        if isinstance(found, AesedgeError):
            yield keep_failure(catalogue, picture, found)
            continue
        with catalogue.transaction():
            content = keep_files(catalogue, found)
            if rows is not None:
                catalogue.add_mean_row(content, settings, mean_row_of(rows))
        if rows is None or content in by_content:
            yield Recognised(picture.name)
        else:
            by_content[content] = found.picture


class _FirstPass:
    def __init__(self, judge: Judge, catalogue: CatalogueWriter, settings: int, by_content: dict[int, Picture]) -> None:
        self._judge, self._catalogue, self._settings = judge, catalogue, settings
        self._pictures = by_content
        self._n = len(by_content)
        self._groups: dict[int, int] = {}
        self._bursts: list[list[int]] = []
        for number, group in enumerate(group_shots(catalogue.shots())):
            self._groups |= {shot.content: number for shot in group}
            if not is_bracket(group):
                self._bursts.append([shot.content for shot in group])

    def run(self, share: float) -> Iterator[Event | Estimated | str]:
        """Learn, choose, judge, estimate."""
        wanted = int(min(_MOST_SAMPLE, max(_LEAST_SAMPLE, self._n * _SAMPLE_SHARE)))
        learnt = self._catalogue.scored_rows(self._settings, _MOST_LEARNT - wanted)
        sample = self._sample(max(wanted - len(learnt), wanted // 2))
        yield from self._judged(sample)
        ridge = self._fit(self._catalogue.scored_rows(self._settings, _MOST_LEARNT))
        sampled = set(sample)
        rest = [content for content in self._pictures if content not in sampled]
        if ridge is None or ridge.correlation < LEAST_CORRELATION:
            found = 0.0 if ridge is None else ridge.correlation
            yield (
                f"first pass: off, its predictions correlate with the scores at {found:.2f} (at least "
                f"{LEAST_CORRELATION} is needed); all are judged"
            )
            yield from self._judged(rest)
            return
        yield f"first pass: learnt from {len(ridge.basis)} photos, correlation {ridge.correlation:.2f}"
        predicted: dict[int, float] = {}
        strange: dict[int, bool] = {}
        for group in batched(rest, _BLOCK):
            scores, are_strange = ridge.predict(self._rows(group))
            predicted |= zip(group, scores.tolist(), strict=True)
            strange |= zip(group, are_strange.tolist(), strict=True)
        chosen = choose(predicted, strange, self._bursts, self._n, share)
        left = [content for content in rest if content not in chosen]
        audit = _drawn(left, math.ceil(_AUDIT_SHARE * len(left)))
        yield from self._judged([*chosen, *audit])
        audited = set(audit)
        estimated = [content for content in left if content not in audited]
        for content in estimated:
            score = min(10.0, max(0.0, predicted[content]))
            low, high = max(0.0, score - ridge.half_width), min(10.0, score + ridge.half_width)
            estimate = Judgement(score, {}, b"", "first pass", low, high)
            self._catalogue.add_judgement(content, self._settings, estimate)
            yield Estimated(self._pictures[content].name)
        yield self._audited([*sample, *chosen], audit, len(estimated))

    def _sample(self, n: int) -> list[int]:
        """Return pictures spread over the whole library, one of each burst at most."""
        one_each: dict[int, int] = {}
        for content in self._pictures:
            one_each.setdefault(self._groups.get(content, -content - 1), content)
        contents = sorted(one_each.values(), key=lambda content: self._pictures[content].name)
        edges = np.linspace(0, len(contents), min(n, len(contents)) + 1).astype(int)
        return [_drawn(contents[a:b], 1)[0] for a, b in pairwise(edges) if b > a]

    def _judged(self, contents: Sequence[int]) -> Iterator[Event]:
        yield from self._judge.judge([self._pictures[content] for content in contents])

    def _fit(self, scored: Sequence[tuple[int, float, bytes]]) -> Ridge | None:
        if len(scored) < _LEAST_SAMPLE // 2:
            return None
        groups = np.array([self._groups.get(content, -content - 1) for content, _, _ in scored], np.int64)
        features = np.array([np.frombuffer(row, np.float16) for _, _, row in scored], np.float64)
        return fit_ridge(features, np.array([score for _, score, _ in scored]), groups)

    def _rows(self, contents: Sequence[int]) -> Array:
        rows = [self._catalogue.mean_row(content, self._settings) for content in contents]
        return np.array(rows, np.float64)

    def _audited(self, judged: Sequence[int], audit: Sequence[int], n_estimated: int) -> str:
        """Say how many of the best photos the first pass is likely to have missed, by those judged anyway."""
        score_of = self._catalogue.score_of
        known = [s for content in judged if (s := score_of(content, self._settings)) is not None]
        checked = [s for content in audit if (s := score_of(content, self._settings)) is not None]
        if not checked:
            return "first pass: nothing was left to estimate"
        weight = (n_estimated + len(checked)) / len(checked)  # each stands for as many that were not judged
        cut = _weighted_cut(known, checked, weight)
        n_best = _BEST * (len(known) + weight * len(checked))
        n_missed = sum(score >= cut for score in checked)
        return (
            f"first pass: {n_estimated} photos are estimated; of {len(checked)} others judged to check it {n_missed} "
            f"belong to the best tenth, so about {n_missed * (weight - 1):.0f} of the best {n_best:.0f} were missed"
        )


def choose(
    predicted: dict[int, float], strange: dict[int, bool], bursts: Sequence[Sequence[int]], n: int, share: float
) -> dict[int, None]:
    """Return the pictures that go on to the language model.

    These are the best by prediction; the best two frames of the best bursts, whose order predictions do not tell; and
    some of what is unlike all that was learnt from.

    Args:
        predicted: picture to its score.
        strange: whether it is unlike what was learnt from.
        bursts: pictures of each.
        n: number of all pictures.
        share: 0..1, of all pictures, that the best by prediction are.
    """
    best = sorted(predicted, key=lambda content: -predicted[content])
    place = {content: i for i, content in enumerate(best)}
    chosen = dict.fromkeys(best[: math.ceil(share * n)])
    pairs = sorted(sorted(place[content] for content in burst if content in place)[:2] for burst in bursts)
    of_bursts = [best[i] for pair in pairs for i in pair if best[i] not in chosen]
    chosen |= dict.fromkeys(of_bursts[: math.ceil(_BURST_SHARE * n)])
    far_out = [content for content in best if strange[content] and content not in chosen]
    return chosen | dict.fromkeys(_drawn(far_out, math.ceil(_FAR_OUT_SHARE * n)))


def _weighted_cut(known: Sequence[float], checked: Sequence[float], weight: float) -> float:
    """Return the score that the best tenth reaches."""
    weighted = sorted([(score, 1.0) for score in known] + [(score, weight) for score in checked], reverse=True)
    left = _BEST * sum(w for _, w in weighted)
    for score, w in weighted:
        left -= w
        if left <= 0:
            return score
    return 0.0


def _drawn(contents: Sequence[int], n: int) -> list[int]:
    """Return n of the pictures by chance, always the same ones: a run that was stopped goes on with them."""
    key: Callable[[int], bytes] = lambda content: hashlib.sha256(content.to_bytes(8, "big")).digest()  # noqa: E731
    return sorted(contents, key=key)[:n]
