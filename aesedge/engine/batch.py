"""Many photos in a row: encoded ahead of the language model, rated in shared batches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from aesedge.engine.generation import how_many_images_fit, rate_new
from aesedge.engine.photo import Photo
from aesedge.engine.results import Outcome
from aesedge.errors import AesedgeError
from aesedge.image import name_of
from aesedge.scheduling.requests import Priority
from aesedge.system.ordered_map import batched, map_ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aesedge.engine.internals import Internals
    from aesedge.engine.results import PhotoResult, Rating
    from aesedge.image import ImageSource
    from aesedge.vision.encoder import EncodedImage

A = TypeVar("A")
S = TypeVar("S", bound="ImageSource")
T = TypeVar("T")
MOST_AT_ONCE = 1024  # photos; each takes a thread


def each(
    internals: Internals, sources: Iterable[S], work: Callable[[Photo], T], at_once: int
) -> Iterator[Outcome[S, T]]:
    """Open photos and call a function with each, see :meth:`aesedge.engine.model.Model.each`."""

    def work_on(found: tuple[S, EncodedImage | AesedgeError]) -> T:
        with open_encoded(internals, *found, prefill=True) as photo:
            return work(photo)

    for (source, _), found in map_ordered(_encode(internals, sources, at_once), work_on, at_once=at_once):
        yield _outcome(source, found)


def score_many(internals: Internals, sources: Iterable[S], *, attributes: bool) -> Iterator[Outcome[S, PhotoResult]]:
    """Score photos, see :meth:`aesedge.engine.model.Model.score_many`."""
    at_once = photos_in_a_batch(internals, _questions(internals, attributes=attributes))
    yield from score_encoded(internals, _encode(internals, sources, at_once), attributes=attributes)


def score_encoded(
    internals: Internals, encoded: Iterable[tuple[A, EncodedImage | AesedgeError]], *, attributes: bool
) -> Iterator[Outcome[A, PhotoResult]]:
    """Score photos that the vision tower has encoded, or whose error is known; see :func:`score_many`.

    Args:
        internals: the model's.
        encoded: each source, which has or is the photo's name, with its embeddings; taken one batch at a time.
        attributes: whether to score the attributes too.
    """
    questions = _questions(internals, attributes=attributes)
    at_once = photos_in_a_batch(internals, questions)
    for group in batched(encoded, at_once):
        photos = [
            found if isinstance(found, AesedgeError) else open_encoded(internals, s, found, prefill=False)
            for s, found in group
        ]
        for (source, _), found in zip(group, _results(internals, photos, questions), strict=True):
            yield _outcome(source, found)


def _questions(internals: Internals, *, attributes: bool) -> list[str]:
    rating = internals.manifest.rating
    return [rating.question, *(rating.attributes.values() if attributes else ())]


def photos_in_a_batch(internals: Internals, questions: Sequence[str]) -> int:
    """Return how many photos are scored at once: as many as their image tokens leave room for in one batch."""
    plan, sequences = internals.plan, internals.sequences
    tokens = [internals.question_tokens(question) for question in questions]
    in_batch = plan.n_ubatch // plan.n_image_tokens
    return max(1, min(in_batch, how_many_images_fit(sequences, plan.n_image_tokens, internals.labels, tokens)))


def _outcome(source: A, found: T | AesedgeError) -> Outcome[A, T]:
    return Outcome(source, None, found) if isinstance(found, AesedgeError) else Outcome(source, found, None)


def _encode(
    internals: Internals, sources: Iterable[S], at_once: int
) -> Iterator[tuple[S, EncodedImage | AesedgeError]]:
    """Encode photos ahead of the language model when the vision tower does not compete for its CPU cores."""
    encoder, n = internals.encoder, internals.plan.n_image_tokens
    if at_once > 1 and internals.tower.gains_by_batches:
        ahead = 1 if internals.tower_shares_cores else 2
        groups = map_ordered(batched(sources, at_once), lambda group: encoder.encode_many(group, n), at_once=ahead)
        for group, found in groups:
            yield from zip(group, [found] * len(group) if isinstance(found, AesedgeError) else found, strict=True)
    else:
        ahead = 1 if internals.tower_shares_cores else at_once + 1
        yield from map_ordered(sources, lambda source: encoder.encode(source, n), at_once=ahead)


def open_encoded(internals: Internals, source: object, encoded: EncodedImage | AesedgeError, *, prefill: bool) -> Photo:
    """Return a photo of many, named by its source; raise its error."""
    if isinstance(encoded, AesedgeError):
        raise encoded
    started = time.perf_counter() - encoded.decode_image_s - encoded.vision_s  # waiting for other photos does not count
    return Photo(internals, name_of(source) or "image", encoded, started, Priority.BATCH, prefill=prefill)


def _results(
    internals: Internals, photos: Sequence[Photo | AesedgeError], questions: Sequence[str]
) -> Iterator[PhotoResult | AesedgeError]:
    opened = [photo for photo in photos if not isinstance(photo, AesedgeError)]
    names = internals.manifest.rating.attributes
    try:
        ratings = iter(_rate(internals, opened, questions) if opened else [])
        for photo in photos:
            if isinstance(photo, AesedgeError):
                yield photo
            else:
                score, *others = next(ratings)
                yield photo.result(score, dict(zip(names, others, strict=False)))
    finally:
        for photo in opened:
            photo.close()


def _rate(internals: Internals, photos: Sequence[Photo], questions: Sequence[str]) -> list[list[Rating]]:
    """Return the ratings of each photo."""
    if len(photos) == 1:  # its questions are asked in several batches where there is little room
        return [photos[0].rate(questions)]
    job = rate_new(
        internals.sequences,
        [photo.internals.image for photo in photos],
        internals.labels,
        [internals.question_tokens(question) for question in questions],
        [photo.internals.recorder for photo in photos],
    )
    return internals.scheduler.submit(job, priority=Priority.BATCH).wait()
