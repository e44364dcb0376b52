"""Prefill and decoding, as llama-bench names them, behind an image and without; knows rows, not what is asked.

``pp`` and ``tg`` are llama-bench's tests: random tokens in a KV cache of their own, nothing tokenized or sampled, and
nothing of the engine. The answers of ``q`` go through the scheduler, behind the photo, as what users ask does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aesedge.bench.fixture import Stopwatch, Subject
from aesedge.bench.result import Row
from aesedge.bench.rounds import Measurement, Sample
from aesedge.llm import Context
from aesedge.llm.raw_timing import RawTimer
from aesedge.scheduling.requests import DecodeTokens, Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

N_GEN = 128
"""Tokens of ``tg128``."""
N_ANSWER = 32
"""Tokens of each answer of several questions."""
N_QUESTIONS = 4
_DEPTH_STEP = 64
"""Depths are rounded up to this, so that rows of one model have one name: 640 behind 576 image tokens."""
_EXCLUDES = "tokenizing, sampling"
_AS_THEY = f"{_EXCLUDES}, scheduling, as in llama-bench"


def open_raw_timer(subject: Subject) -> RawTimer:
    """Open a KV cache for llama.cpp's calls alone, with room for the longest test; whoever asks closes it."""
    model, plan, depth = subject.model, subject.model.plan, depth_of(subject)
    context = Context(
        model.llm,
        n_ctx=max(depth + N_GEN, model.n_image_tokens),
        n_seq_max=1,
        n_threads=plan.threads,
        n_threads_batch=plan.threads_batch,
        kv_type=plan.kv_type,
        flash_attention=plan.flash_attention,
    )
    timer = RawTimer(context, n_ubatch=plan.n_ubatch, submit=model.scheduler.call)
    timer.fill(depth, subject.state, subject.n_resident)  # the image is prefilled already
    return timer


def language_tests(subject: Subject, timer: RawTimer) -> list[Measurement]:
    """Return the tests of the language model, those of llama-bench in a cache of their own."""
    n_image = subject.model.n_image_tokens
    depth = depth_of(subject)
    question = subject.model.question_tokens(subject.model.manifest.rating.question)

    def row(name: str, **values: object) -> Row:
        return Row(test=name, group="language", unit="t", **values)  # type: ignore[arg-type]

    def answers(n: int) -> Measurement:
        excludes = f"{_EXCLUDES}; the prefill of the image. The {len(question)} tokens of each question are in it"
        counts = {"n_prompt": n * len(question), "n_gen": N_ANSWER, "n_depth": subject.n_resident, "n_parallel": n}
        name = f"q{n}x{N_ANSWER} @ img"
        return Measurement(
            row(name, n=n * N_ANSWER, excludes=excludes, **counts),
            lambda: subject.timed(_answers(subject, [question] * n)),
        )

    return [
        Measurement(
            row(f"pp{n_image}", n=n_image, n_prompt=n_image, excludes=_AS_THEY),
            lambda: Sample(timer.prefill(n_image)),
        ),
        Measurement(
            row(f"pp{n_image} img", n=n_image, n_prompt=n_image, excludes="the vision tower, scheduling"),
            lambda: Sample(timer.prefill_embeddings(subject.photo.image_embeddings)),
        ),
        Measurement(row(f"tg{N_GEN}", n=N_GEN, n_gen=N_GEN, excludes=_AS_THEY), lambda: Sample(timer.decode(N_GEN))),
        Measurement(
            row(f"tg{N_GEN} @ d{depth}", n=N_GEN, n_gen=N_GEN, n_depth=depth, excludes=f"{_AS_THEY}; the depth"),
            lambda: Sample(timer.decode_at_depth(N_GEN)),
        ),
        answers(1),
        answers(N_QUESTIONS),
    ]


def depth_of(subject: Subject) -> int:
    """Return the depth behind the image at which decoding is timed."""
    return -(-subject.n_resident // _DEPTH_STEP) * _DEPTH_STEP


def random_tokens(subject: Subject, n: int) -> list[int]:
    """Return so many tokens of the vocabulary."""
    return [int(token) for token in np.random.default_rng().integers(subject.model.llm.n_vocab, size=n)]


def _answers(subject: Subject, questions: Sequence[Sequence[int]]) -> Job[Sample]:
    """Prefill questions about the image, and decode an answer to each, all at once (llama-batched-bench's ``-pps``)."""
    sequences, image = subject.model.sequences, subject.photo.image
    n_cells = sum(map(len, questions)) + N_ANSWER * len(questions)
    seq_ids, _ = yield from sequences.acquire(image, n_forks=len(questions), n_cells=n_cells)
    try:
        with sequences.pinned(image):
            watch = Stopwatch()
            yield DecodeTokens(list(zip(seq_ids, questions, strict=True)), fetch=True)
            prefill_s = watch.seconds
            yield from one_by_one(subject, seq_ids, N_ANSWER)
            return watch.sample(prefill_s=prefill_s, decode_s=watch.seconds - prefill_s)
    finally:
        sequences.release(seq_ids)


def one_by_one(subject: Subject, seq_ids: Sequence[int], n: int) -> Job[None]:
    """Append so many tokens to each sequence, one to each at a time, with the logits that a sampler would read."""
    tokens: Iterator[int] = iter(random_tokens(subject, n * len(seq_ids)))
    for _ in range(n):
        yield DecodeTokens([(seq_id, [next(tokens)]) for seq_id in seq_ids], fetch=len(seq_ids) > 1)
    subject.finish()
