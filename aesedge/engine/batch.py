"""The scores of many photos, without text: which photos share batches, and what comes of each; knows no KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aesedge.engine.generation import how_many_images_fit, rate_new
from aesedge.errors import AesedgeError
from aesedge.scheduling.requests import Priority
from aesedge.system.ordered_map import batched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.engine.rating import Rating
    from aesedge.engine.results import PhotoResult
    from aesedge.image import ImageSource
    from aesedge.vision.encoder import EncodedImage

S = TypeVar("S", bound="ImageSource")


def score_many(
    model: Model, sources: Iterable[S], *, attributes: bool
) -> Iterator[tuple[S, PhotoResult | AesedgeError]]:
    """Score photos, see :meth:`aesedge.engine.model.Model.score_many`."""
    rating = model.manifest.rating
    questions = [rating.question, *(rating.attributes.values() if attributes else ())]
    at_once = photos_in_a_batch(model, questions)
    for group in batched(model.encode_many(sources, at_once), at_once):
        outcomes = [_photo(model, source, encoded) for source, encoded in group]
        yield from zip((source for source, _ in group), _results(model, outcomes, questions), strict=True)


def photos_in_a_batch(model: Model, questions: Sequence[str]) -> int:
    """Return how many photos are scored at once: as many as their image tokens leave room for in one batch."""
    in_batch = model.plan.n_ubatch // model.n_image_tokens
    tokens = [model.question_tokens(question) for question in questions]
    return max(1, min(in_batch, how_many_images_fit(model.sequences, model.n_image_tokens, model.labels, tokens)))


def _photo(model: Model, source: ImageSource, encoded: EncodedImage | AesedgeError) -> Photo | AesedgeError:
    return encoded if isinstance(encoded, AesedgeError) else model.open_photo(source, encoded)


def _results(
    model: Model, outcomes: Sequence[Photo | AesedgeError], questions: Sequence[str]
) -> Iterator[PhotoResult | AesedgeError]:
    photos = [photo for photo in outcomes if not isinstance(photo, AesedgeError)]
    names = model.manifest.rating.attributes
    try:
        found = iter(_rate(model, photos, questions) if photos else [])
        for outcome in outcomes:
            if isinstance(outcome, AesedgeError):
                yield outcome
            else:
                score, *others = next(found)
                yield outcome.result(score, dict(zip(names, others, strict=False)))
    finally:
        for photo in photos:
            photo.close()


def _rate(model: Model, photos: Sequence[Photo], questions: Sequence[str]) -> list[list[Rating]]:
    """Return the ratings of each photo."""
    if len(photos) == 1:  # whose questions are asked in several batches where there is little room
        return [photos[0].rate(questions)]
    work = rate_new(
        model.sequences,
        [photo.image for photo in photos],
        model.labels,
        [model.question_tokens(question) for question in questions],
        [photo.timings for photo in photos],
    )
    return model.scheduler.submit(work, priority=Priority.BATCH).wait()
