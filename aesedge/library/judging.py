"""Judge photos that the catalogue does not know, decoding ahead of the model, and keep each result at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aesedge.engine.batch import open_encoded, photos_in_a_batch, score_encoded
from aesedge.errors import AesedgeError, ImageError, MissingExtraError
from aesedge.library.examination import Examined, examine
from aesedge.library.records import Judgement
from aesedge.system.machine import n_cores
from aesedge.system.ordered_map import batched, map_ordered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.model import Model
    from aesedge.engine.results import PhotoResult
    from aesedge.image.image_spec import ImageSpec
    from aesedge.library.catalogue_writer import CatalogueWriter
    from aesedge.library.finding import Picture
    from aesedge.vision.encoder import EncodedImage

_NOT_KEPT = ("photo", "photo_bytes", "critique", "report", "answers", "cache", "timings", "finish_reason", "score")
"""Fields of a result that are about the file or this run, or have a place of their own."""
_MOST_F16 = float(np.finfo(np.float16).max)


class Judged(NamedTuple):
    """A photo whose result is kept."""

    result: PhotoResult


class Recognised(NamedTuple):
    """A photo whose pixels were judged before, in another file."""

    name: str


class Failed(NamedTuple):
    """A photo that cannot be judged; the reason is kept."""

    name: str
    error: AesedgeError


class WentAway(NamedTuple):
    """A photo that was not there any more when it was to be read; nothing is kept."""

    name: str


Event = Judged | Recognised | Failed | WentAway


@dataclass(frozen=True)
class Texts:
    """What is written about each photo besides its scores; None for nothing."""

    critique: GenerationOptions | None = None
    report: GenerationOptions | None = None

    def __bool__(self) -> bool:
        return self.critique is not None or self.report is not None


def recognise_changed(
    catalogue: CatalogueWriter, settings: int, spec: ImageSpec, pictures: Sequence[Picture]
) -> Iterator[tuple[Picture, Event | None]]:
    """Decode photos whose files have changed: where only metadata were written, the pixels are known.

    Yields:
        Each picture with what came of it; None where it has to be judged.
    """
    for picture, found in map_ordered(pictures, lambda one: examine(one, spec), at_once=n_cores()):
        if isinstance(found, AesedgeError):
            yield picture, keep_failure(catalogue, picture, found)
        elif _is_judged(catalogue, settings, found):
            keep_files(catalogue, found)
            yield picture, Recognised(picture.name)
        else:
            yield picture, None


class Judge:
    """A loaded model that judges for a catalogue.

    Args:
        model: the model.
        catalogue: where results are kept.
        settings: number of the settings that the model has.
        texts: what is written about each photo besides its scores.
    """

    def __init__(self, model: Model, catalogue: CatalogueWriter, settings: int, texts: Texts | None = None) -> None:
        self._model = model
        self._internals = model.internals
        self._catalogue = catalogue
        self._settings = settings
        self._texts = texts or Texts()

    def judge(self, pictures: Iterable[Picture]) -> Iterator[Event]:
        """Judge pictures; each is kept before its event is yielded."""
        waiting: dict[bytes, list[Examined]] = {}  # pixels that are being judged: copies wait for the first
        events: list[Event] = []
        encoded = self._to_rate(self.encode(pictures), waiting, events)
        for one, rows, result in self._rate(encoded):
            yield from events
            events.clear()
            self._keep(one, rows, result)
            for copy in waiting.pop(one.digest):
                keep_files(self._catalogue, copy)
                events.append(Recognised(copy.name))
            yield Judged(result)
        yield from events

    def encode(
        self, pictures: Iterable[Picture]
    ) -> Iterator[tuple[Picture, Examined | AesedgeError, EncodedImage | None]]:
        """Decode photos on all cores that are free, and run the vision tower on those that are not judged yet.

        Yields:
            Each picture with what decoding found, and its embeddings; None for those if they are not needed.
        """
        internals = self._internals
        spec, n = internals.manifest.image, internals.plan.n_image_tokens
        examined = map_ordered(pictures, lambda picture: examine(picture, spec), at_once=n_cores())
        is_batched = internals.tower.gains_by_batches
        size = photos_in_a_batch(internals, [internals.manifest.rating.question]) if is_batched else 1

        def run(group: list[tuple[Picture, Examined | AesedgeError]]) -> list[EncodedImage | None]:
            new = [
                found.prepared
                for _, found in group
                if isinstance(found, Examined) and not _is_judged(self._catalogue, self._settings, found)
            ]
            rows = dict(zip(map(id, new), internals.encoder.encode_prepared(new, n), strict=True)) if new else {}
            return [rows.get(id(found.prepared)) if isinstance(found, Examined) else None for _, found in group]

        at_once = 1 if internals.tower_shares_cores else 2
        for group, rows in map_ordered(batched(examined, size), run, at_once=at_once):
            if isinstance(rows, AesedgeError):
                raise rows
            for (picture, found), one in zip(group, rows, strict=True):
                yield picture, found, one

    def _to_rate(
        self,
        encoded: Iterable[tuple[Picture, Examined | AesedgeError, EncodedImage | None]],
        waiting: dict[bytes, list[Examined]],
        events: list[Event],
    ) -> Iterator[tuple[Examined, EncodedImage]]:
        """Pass on what has to be rated; what has not is kept, and its event is noted."""
        for picture, found, rows in encoded:
            if isinstance(found, AesedgeError):
                events.append(keep_failure(self._catalogue, picture, found))
            elif found.digest in waiting:
                waiting[found.digest].append(found)
            elif rows is None or _is_judged(self._catalogue, self._settings, found):
                keep_files(self._catalogue, found)
                events.append(Recognised(picture.name))
            else:
                waiting[found.digest] = []
                yield found, rows

    def _rate(
        self, encoded: Iterator[tuple[Examined, EncodedImage]]
    ) -> Iterator[tuple[Examined, EncodedImage, PhotoResult]]:
        """Rate photos in shared batches, or one by one with their texts."""
        rows: dict[bytes, EncodedImage] = {}

        def remembered() -> Iterator[tuple[Examined, EncodedImage]]:
            for one, encoding in encoded:
                rows[one.digest] = encoding
                yield one, encoding

        if not self._texts:
            for one, result, error in score_encoded(self._internals, remembered(), attributes=True):
                if result is None:
                    raise error or AesedgeError("no score")
                yield one, rows.pop(one.digest), result
            return
        for (one, encoding), written in map_ordered(encoded, self._write, at_once=self._model.photos_at_once):
            if isinstance(written, AesedgeError):
                raise written
            yield one, encoding, written

    def _write(self, encoded: tuple[Examined, EncodedImage]) -> PhotoResult:
        with open_encoded(self._internals, *encoded, prefill=True) as photo:
            score, attributes = photo.score_and_attributes()
            critique = photo.critique(self._texts.critique) if self._texts.critique else None
            report = photo.report(self._texts.report) if self._texts.report else None
            return photo.result(score, attributes, critique=critique, report=report)

    def _keep(self, one: Examined, rows: EncodedImage, result: PhotoResult) -> None:
        values = result.to_builtins()
        kept = {name: value for name, value in values.items() if name not in _NOT_KEPT}
        judgement = Judgement(
            result.score, kept, mean_row_of(rows), critique=values["critique"], report=values["report"]
        )
        with self._catalogue.transaction():
            content = keep_files(self._catalogue, one)
            self._catalogue.add_judgement(content, self._settings, judgement)


def mean_row_of(encoded: EncodedImage) -> bytes:
    """Return the mean of a photo's image embeddings as bytes of float16 [n_embd]."""
    mean: npt.NDArray[np.float32] = encoded.rows.mean(axis=0, dtype=np.float32)
    return np.clip(mean, -_MOST_F16, _MOST_F16).astype(np.float16).tobytes()


def keep_files(catalogue: CatalogueWriter, one: Examined) -> int:
    """Note which picture the files of a photo hold; return its number."""
    with catalogue.transaction():
        content = _content_of(catalogue, one)
        catalogue.add_file(one.name, one.picture.file.state, content, tail=one.tail)
        for path, state in one.picture.others:
            catalogue.add_file(path, state, content, tail=None, judged_as=one.name)
    return content


def _content_of(catalogue: CatalogueWriter, one: Examined) -> int:
    known = catalogue.file(one.name, 0)
    is_same = known is not None and known.state == one.picture.file.state
    if known is not None and is_same and catalogue.content_by_pixels(one.digest) is None:
        catalogue.add_pixels(one.digest, known.content)  # as a tower of another size reads them
    return catalogue.add_content(one.digest, one.about)


def _is_judged(catalogue: CatalogueWriter, settings: int, one: Examined) -> bool:
    content = catalogue.content_by_pixels(one.digest)
    return content is not None and catalogue.score_from(content, settings) == "model"


def keep_failure(catalogue: CatalogueWriter, picture: Picture, error: AesedgeError) -> Event:
    """Keep why a photo cannot be judged, unless its drive has gone or the fault is not the photo's."""
    if not isinstance(error, ImageError | MissingExtraError):
        raise error
    if not os.path.exists(picture.name):  # noqa: PTH110 - raises nothing for a drive that went away
        return WentAway(picture.name)
    catalogue.add_failure(picture.name, picture.file.state, type(error).__name__, str(error))
    return Failed(picture.name, error)


def write_texts(
    model: Model, catalogue: CatalogueWriter, settings: int, texts: Texts, photos: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, AesedgeError | None]]:
    """Write texts about photos that have scores; each is kept before it is yielded.

    Args:
        model: the model that scored them.
        catalogue: where texts are kept.
        settings: number of the settings.
        texts: what is written.
        photos: path and number of each picture.
    """
    outcomes = model.each(
        [path for path, _ in photos],
        lambda photo: (
            photo.critique(texts.critique).text.strip() if texts.critique else None,
            photo.report(texts.report) if texts.report else None,
        ),
    )
    for (path, content), outcome in zip(photos, outcomes, strict=True):
        if outcome.value is not None:
            critique, report = outcome.value
            values = None if report is None else {**vars(report)}
            catalogue.add_texts(content, settings, critique, values)
        yield path, outcome.error
