"""The timed rows of a benchmark: a photo's way to image embeddings, prefill and decode, and what users wait for.

``pp`` and ``tg`` are llama-bench's tests: random tokens in a KV cache of their own, without tokenizing, sampling or the
engine. Answers (``q``) and photos go through the scheduler, as users' questions do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from aesedge.bench.result import Row
from aesedge.bench.rounds import Measurement, Sample, Stopwatch, timed
from aesedge.errors import InferenceError
from aesedge.image import preprocess, read_image
from aesedge.llm import Context
from aesedge.llm.raw_timing import RawTimer
from aesedge.scheduling.requests import DecodeTokens, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aesedge.bench.fixture import Fixture
    from aesedge.bench.result import Group
    from aesedge.engine.photo import Photo
    from aesedge.engine.results import CacheState, Outcome

N_GEN = 128
"""Tokens of ``tg128``."""
N_CRITIQUE = 64
"""Tokens of a critique at most."""
_N_ANSWER, _N_QUESTIONS = 32, 4
_DEPTH_STEP = 64
"""Depths are rounded up to this, so that all runs of a model name their rows alike: 640 behind 576 image tokens."""
_CAMERA_MEGAPIXELS = 12.0
_IN_A_ROW_S, _MOST_IN_A_ROW = 1.0, 32
"""About how long the photos of one repetition take together, and how many there are at most."""
_READ_BEFORE = "reading the disk: the file was read before"
_EXCLUDES = "tokenizing, sampling"
_AS_THEY = f"{_EXCLUDES}, scheduling, as in llama-bench"
_TTFT_EXCLUDES: dict[CacheState, str] = {
    "cold": "loading; the text before the image, which is prefilled once",
    "embeddings": "loading; the tower: the photo is decoded, recognised, and prefilled",
    "kv": "the tower, and the prefill of the image: another question about an open photo",
}


def measurements(fixture: Fixture, timer: RawTimer) -> list[Measurement]:
    """Return all timed rows, with what repeats them."""
    return [*_image_rows(fixture), *_language_rows(fixture, timer), *_photo_rows(fixture)]


def _row(group: Group, test: str, repeat: Callable[[], Sample], **values: Any) -> Measurement:
    return Measurement(Row(test=test, group=group, **values), repeat)


def _image_rows(fixture: Fixture) -> list[Measurement]:
    model, row = fixture.model, partial(_row, "image")
    spec, n_tokens, given = model.manifest.image, model.n_image_tokens, fixture.photos[0]
    camera = fixture.new_photos.write(megapixels=_CAMERA_MEGAPIXELS)
    picture = read_image(given, size_hint=spec.size)
    pixels = preprocess(picture, spec)

    def decode(test: str, path: Path) -> Measurement:
        with Image.open(path) as opened:
            n = opened.width * opened.height / 1e6
        return row(
            test, lambda: timed(lambda: read_image(path, size_hint=spec.size)), n=n, unit="MP", excludes=_READ_BEFORE
        )

    def prepare() -> Sample:
        copy = picture.copy()
        return timed(lambda: preprocess(copy, spec))

    def encode() -> Sample:
        return timed(lambda: model.internals.tower.encode(pixels, n_tokens))

    return [
        decode("decode image", given),
        decode("decode image 12 MP", camera),
        row("preprocess", prepare, unit="photos", excludes="decoding"),
        row(f"vision {model.vision.lower()}", encode, unit="photos", n_prompt=n_tokens, excludes="preprocessing"),
    ]


def open_raw_timer(fixture: Fixture) -> RawTimer:
    """Open a KV cache for llama.cpp's calls alone, with room for the longest test; the caller closes it."""
    model, plan, depth = fixture.model, fixture.model.internals.plan, depth_of(fixture)
    context = Context(
        model.internals.llm,
        n_ctx=max(depth + N_GEN, model.n_image_tokens),
        n_seq_max=1,
        n_threads=plan.threads,
        n_threads_batch=plan.threads_batch,
        kv_type=plan.kv_type,
        flash_attention=plan.flash_attention,
        kernels=plan.kernels,
    )
    timer = RawTimer(context, n_ubatch=plan.n_ubatch, submit=model.internals.scheduler.call)
    timer.fill(depth, fixture.state, fixture.n_resident)  # the image is prefilled already
    return timer


def depth_of(fixture: Fixture) -> int:
    """Return the depth behind the image at which decoding is timed."""
    return -(-fixture.n_resident // _DEPTH_STEP) * _DEPTH_STEP


def _language_rows(fixture: Fixture, timer: RawTimer) -> list[Measurement]:
    n, depth, row = fixture.model.n_image_tokens, depth_of(fixture), partial(_row, "language", unit="t")
    question = fixture.model.internals.question_tokens(fixture.model.manifest.rating.question)
    embeddings = fixture.photo.image_embeddings

    def answers(n_parallel: int) -> Measurement:
        return row(
            f"q{n_parallel}x{_N_ANSWER} @ img",
            lambda: fixture.timed(_answers(fixture, [question] * n_parallel)),
            n=n_parallel * _N_ANSWER,
            n_prompt=n_parallel * len(question),
            n_gen=_N_ANSWER,
            n_depth=fixture.n_resident,
            n_parallel=n_parallel,
            excludes=f"{_EXCLUDES}; the prefill of the image. The {len(question)} tokens of each question are in it",
        )

    decode = partial(row, n=N_GEN, n_gen=N_GEN)
    return [
        row(f"pp{n}", lambda: Sample(timer.prefill(n)), n=n, n_prompt=n, excludes=_AS_THEY),
        row(
            f"pp{n} img",
            lambda: Sample(timer.prefill_embeddings(embeddings)),
            n=n,
            n_prompt=n,
            excludes="the vision tower, scheduling",
        ),
        decode(f"tg{N_GEN}", lambda: Sample(timer.decode(N_GEN)), excludes=_AS_THEY),
        decode(
            f"tg{N_GEN} @ d{depth}",
            lambda: Sample(timer.decode_at_depth(N_GEN)),
            n_depth=depth,
            excludes=f"{_AS_THEY}; the depth",
        ),
        answers(1),
        answers(_N_QUESTIONS),
    ]


def random_tokens(fixture: Fixture, n: int) -> list[int]:
    """Return n tokens of the vocabulary."""
    return [int(token) for token in np.random.default_rng().integers(fixture.model.internals.llm.n_vocab, size=n)]


def _answers(fixture: Fixture, questions: Sequence[Sequence[int]]) -> Job[Sample]:
    """Prefill questions about the image, and decode an answer to each, all at once (llama-batched-bench's ``-pps``)."""
    sequences, image = fixture.model.internals.sequences, fixture.photo.internals.image
    n_cells = sum(map(len, questions)) + _N_ANSWER * len(questions)
    seq_ids, _ = yield from sequences.acquire(image, n_forks=len(questions), n_cells=n_cells)
    try:
        with sequences.pinned(image):
            watch = Stopwatch()
            yield DecodeTokens(list(zip(seq_ids, questions, strict=True)), fetch=True)
            prefill_s = watch.seconds
            yield from one_by_one(fixture, seq_ids, _N_ANSWER)
            return watch.sample(prefill_s=prefill_s, decode_s=watch.seconds - prefill_s)
    finally:
        sequences.release(seq_ids)


def one_by_one(fixture: Fixture, seq_ids: Sequence[int], n: int) -> Job[None]:
    """Append n tokens to each sequence, one to each at a time, with the logits that a sampler would read."""
    tokens: Iterator[int] = iter(random_tokens(fixture, n * len(seq_ids)))
    for _ in range(n):
        yield DecodeTokens([(seq_id, [next(tokens)]) for seq_id in seq_ids], fetch=len(seq_ids) > 1)
    fixture.finish()


def _photo_rows(fixture: Fixture) -> list[Measurement]:
    n_all = 1 + len(fixture.model.manifest.rating.attributes)

    def asked(test: str, n: int, ask: Callable[[Photo], object]) -> Measurement:
        def repeat() -> Sample:
            fixture.prefill()
            return timed(lambda: ask(fixture.photo))

        excludes = "the tower, and the prefill of the image"
        return _row("photo", test, repeat, n=n, unit="questions", n_depth=fixture.n_resident, excludes=excludes)

    return [
        asked("score @ img", 1, lambda photo: photo.score()),
        asked(f"score{n_all} @ img", n_all, lambda photo: photo.score_and_attributes()),
        *(_first_token(fixture, state) for state in _TTFT_EXCLUDES),
        *_in_a_row(fixture),
    ]


def _first_token(fixture: Fixture, state: CacheState) -> Measurement:
    """Return the test of the time from the call to the first token of a critique (TTFT)."""
    model, known = fixture.model, fixture.new_photos.write()

    def look() -> Sample:
        path = fixture.new_photos.write() if state == "cold" else known
        if state == "embeddings":
            model.internals.encoder.encode(path, model.n_image_tokens)  # so that its embeddings are cached
        fixture.leave()
        watch = Stopwatch()
        with model.look(path) as photo:
            if photo.cache_state != state:
                raise InferenceError(f"TTFT {state}: the caches say that the photo was {photo.cache_state}")
            asked = Stopwatch()
            photo.critique(max_tokens=1)
            seen = photo.timings
            return watch.sample(
                decode_image_s=seen.decode_image_s,
                vision_s=seen.vision_s,
                prefill_s=max(0.0, watch.seconds - asked.seconds - seen.decode_image_s - seen.vision_s),
                first_token_s=asked.seconds,
            )

    def stay() -> Sample:
        fixture.prefill()
        watch = Stopwatch()
        fixture.photo.critique(max_tokens=1)
        return watch.sample(first_token_s=watch.seconds)

    repeat = stay if state == "kv" else look
    return _row("photo", f"ttft {state}", repeat, cache_state=state, n_gen=1, excludes=_TTFT_EXCLUDES[state])


def _in_a_row(fixture: Fixture) -> list[Measurement]:
    """Return the tests of many new photos."""
    model = fixture.model
    n = max(1, min(_MOST_IN_A_ROW, round(_IN_A_ROW_S / fixture.photo_s)))

    def run(work: Callable[[list[Path]], Iterator[Outcome[Path, Any]]]) -> Sample:
        paths = [fixture.new_photos.write() for _ in range(n)]
        fixture.leave()
        watch = Stopwatch()
        outcomes = list(work(paths))
        sample = watch.sample()
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        written = [outcome.value for outcome in outcomes if isinstance(outcome.value, int)]
        return sample._replace(n_written=sum(written) / n if written else None)

    def score(paths: list[Path]) -> Iterator[Outcome[Path, Any]]:
        return model.score_many(paths, attributes=False)

    def criticise(photo: Photo) -> int:
        photo.score_and_attributes()
        return photo.critique(max_tokens=N_CRITIQUE).n_tokens

    def write(paths: list[Path]) -> Iterator[Outcome[Path, Any]]:
        return model.each(paths, criticise)

    row = partial(_row, "photo", n=n, unit="photos", per_minute=True, cache_state="cold")
    new = "loading; each photo is new, and"
    return [
        row("photos score", lambda: run(score), excludes=f"{new} is asked the score question alone"),
        row(
            "photos critique",
            lambda: run(write),
            n_gen=N_CRITIQUE,
            n_parallel=min(n, model.photos_at_once),
            excludes=f"{new} has score, attributes and a critique of at most {N_CRITIQUE} tokens",
        ),
    ]
