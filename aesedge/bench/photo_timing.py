"""What users wait for: a score, the first token in three states of the caches, photos a minute; knows no kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.bench.fixture import Stopwatch, Subject
from aesedge.bench.result import Row
from aesedge.bench.rounds import Measurement, Sample
from aesedge.engine.completion import Writing
from aesedge.errors import AesedgeError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.engine.photo import Photo
    from aesedge.engine.results import CacheState

N_CRITIQUE = 64
"""Tokens of a critique at most."""
_IN_A_ROW_S = 1.0
"""About how long the photos of one repetition take together, where one takes less."""
_MOST_IN_A_ROW = 32
_ONE = Writing(max_tokens=1)


def photo_tests(subject: Subject) -> list[Measurement]:
    """Return the tests of whole photos."""
    attributes = subject.model.manifest.rating.attributes
    n_all = 1 + len(attributes)

    def row(name: str, **values: object) -> Row:
        return Row(test=name, group="photo", **values)  # type: ignore[arg-type]

    def asked(do: Callable[[Photo], object]) -> Callable[[], Sample]:
        def repeat() -> Sample:
            subject.prefill()
            watch = Stopwatch()
            do(subject.photo)
            return watch.sample()

        return repeat

    depth = {"n_depth": subject.n_resident, "excludes": "the tower, and the prefill of the image"}
    tests = [
        Measurement(row("score @ img", n=1, unit="questions", **depth), asked(lambda photo: photo.score())),
        Measurement(
            row(f"score{n_all} @ img", n=n_all, unit="questions", **depth),
            asked(lambda photo: photo.score_and_attributes()),
        ),
        _first_token(subject, "cold"),
        _first_token(subject, "embeddings"),
        _first_token(subject, "kv"),
    ]
    return [*tests, *_in_a_row(subject)]


def _first_token(subject: Subject, state: CacheState) -> Measurement:
    """Return the test of the time from the call to the first token of a critique (TTFT)."""
    model = subject.model
    again = subject.new_photos.write()

    def ask(photo: Photo, watch: Stopwatch) -> Sample:
        """Ask for one token; what looking took is in the photo's timings."""
        asked = Stopwatch()
        photo.critique(_ONE).read()
        seen = photo.timings
        return watch.sample(
            decode_image_s=seen.decode_image_s,
            vision_s=seen.vision_s,
            prefill_s=max(0.0, watch.seconds - asked.seconds - seen.decode_image_s - seen.vision_s),
            first_token_s=asked.seconds,
        )

    def look() -> Sample:
        path = again
        if state == "cold":
            path = subject.new_photos.write()
        else:
            model.encoder.encode(path, model.n_image_tokens)  # so that its embeddings are there, whatever came since
        subject.leave()
        watch = Stopwatch()
        with model.look(path) as photo:
            if photo.cache_state != state:
                raise InferenceError(f"TTFT {state}: the caches say that the photo was {photo.cache_state}")
            return ask(photo, watch)

    def stay() -> Sample:
        subject.prefill()
        watch = Stopwatch()
        subject.photo.critique(_ONE).read()
        return watch.sample(first_token_s=watch.seconds)

    excludes = {
        "cold": "loading; the text before the image, which is prefilled once",
        "embeddings": "loading; the tower: the photo is decoded, recognised, and prefilled",
        "kv": "the tower, and the prefill of the image: another question about an open photo",
    }[state]
    row = Row(test=f"ttft {state}", group="photo", cache_state=state, n_gen=1, excludes=excludes)
    return Measurement(row, stay if state == "kv" else look)


def _in_a_row(subject: Subject) -> list[Measurement]:
    """Return the tests of many photos."""
    model, n = subject.model, _how_many(subject.photo_s)

    def score() -> Sample:
        paths = [subject.new_photos.write() for _ in range(n)]
        subject.leave()
        watch = Stopwatch()
        _check([outcome for _, outcome in model.score_many(paths, attributes=False)])
        return watch.sample()

    def criticise(photo: Photo) -> int:
        photo.score_and_attributes()
        reply = photo.critique(Writing(max_tokens=N_CRITIQUE))
        reply.read()
        return len(reply.tokens)

    def write() -> Sample:
        paths = [subject.new_photos.write() for _ in range(n)]
        subject.leave()
        watch = Stopwatch()
        outcomes = [outcome for _, outcome in model.each(paths, criticise)]
        sample = watch.sample()
        _check(outcomes)
        return sample._replace(n_written=sum(o for o in outcomes if isinstance(o, int)) / n)

    def row(name: str, more: str, **values: object) -> Row:
        counts = {"n": n, "unit": "photos", "per_minute": True, "cache_state": "cold"}
        excludes = f"loading; each photo is new, {more}"
        return Row(test=name, group="photo", excludes=excludes, **counts, **values)  # type: ignore[arg-type]

    return [
        Measurement(row("photos score", "and is asked the score question alone"), score),
        Measurement(
            row(
                "photos critique",
                f"and has score, attributes and a critique of at most {N_CRITIQUE} tokens",
                n_gen=N_CRITIQUE,
                n_parallel=min(n, model.photos_at_once),
            ),
            write,
        ),
    ]


def _how_many(photo_s: float) -> int:
    return max(1, min(_MOST_IN_A_ROW, round(_IN_A_ROW_S / photo_s)))


def _check(outcomes: Sequence[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, AesedgeError):
            raise outcome
