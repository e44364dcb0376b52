"""Ratings and answers as work for the scheduler; knows tokens, sequences and images, not what is asked or seen.

Everything here runs on the scheduler's thread, between two batches.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.engine.rating import LabelTokens, Rating, rate
from aesedge.errors import ContextFullError
from aesedge.llm import GrammarState, Sampler, Step
from aesedge.llm.text_stream import TextStream
from aesedge.scheduling.requests import DecodeTokens, Job, Preempted, Reserve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aesedge.engine.completion import Reply, Writing
    from aesedge.engine.results import Timings
    from aesedge.llm import Context, LanguageModel
    from aesedge.scheduling.sequences import CachedImage, SequenceCache

Logits = npt.NDArray[np.float32]
Started = tuple[Sampler, Step]


def acquire(
    sequences: SequenceCache, image: CachedImage, timings: Timings, *, n_forks: int = 0, n_cells: int = 0
) -> Job[list[int]]:
    """Do what :meth:`SequenceCache.acquire` does, and count what it cost."""
    forks, brought = yield from sequences.acquire(image, n_forks=n_forks, n_cells=n_cells)
    if brought:
        timings.n_prompt += sequences.n_positions(image)
        timings.n_reused += sequences.n_positions(image) if image.restored else sequences.n_prefix
    return forks


def prefill(sequences: SequenceCache, image: CachedImage, timings: Timings) -> Job[None]:
    """See that an image is in the cache."""
    before = time.perf_counter()
    yield from acquire(sequences, image, timings)
    timings.prefill_s += time.perf_counter() - before


def rate_all(
    sequences: SequenceCache,
    image: CachedImage,
    labels: LabelTokens,
    questions: Sequence[Sequence[int]],
    timings: Timings,
) -> Job[list[Rating]]:
    """Read the ratings of questions off the next-token distribution, as many in one batch as there is room for.

    Args:
        sequences: the KV cache.
        image: what the questions are about.
        labels: the answers that are looked for.
        questions: tokens of each.
        timings: where times and counts are added.
    """
    before = time.perf_counter()
    ratings: list[Rating] = []
    while len(ratings) < len(questions):
        rest = questions[len(ratings) :]
        group = rest[: how_many_fit(sequences, image, labels, rest)]
        n_forks = len(group) * (1 + len(labels.prefixes))
        n_cells = sum(_cells_of(labels, question) for question in group)
        seq_ids = yield from acquire(sequences, image, timings, n_forks=n_forks, n_cells=n_cells)
        try:
            with sequences.pinned(image):
                (found,) = yield from _rate(sequences, labels, group, [seq_ids])
                ratings += found
        finally:
            sequences.release(seq_ids)
        n_past = sequences.n_positions(image) * len(group)
        timings.n_prompt += sum(map(len, group)) + n_past
        timings.n_reused += n_past
    timings.prefill_s += time.perf_counter() - before
    return ratings


def rate_new(
    sequences: SequenceCache,
    images: Sequence[CachedImage],
    labels: LabelTokens,
    questions: Sequence[Sequence[int]],
    timings: Sequence[Timings],
) -> Job[list[list[Rating]]]:
    """Do what :func:`rate_all` does for several images that are new: they, and their questions, share batches.

    There must be room for all of them, see :func:`how_many_images_fit`.
    """
    before = time.perf_counter()
    n_forks, n_cells = len(questions) * (1 + len(labels.prefixes)), sum(_cells_of(labels, q) for q in questions)
    groups = yield from sequences.acquire_batch(images, n_forks=n_forks, n_cells=n_cells)
    try:
        with ExitStack() as stack:
            for image in images:
                stack.enter_context(sequences.pinned(image))
            ratings = yield from _rate(sequences, labels, questions, groups)
    finally:
        for seq_ids in groups:
            sequences.release(seq_ids)
    took = (time.perf_counter() - before) / len(images)
    for image, of_one in zip(images, timings, strict=True):
        n_image = sequences.n_positions(image)
        of_one.prefill_s += took
        of_one.n_prompt += n_image + sum(map(len, questions)) + n_image * len(questions)
        of_one.n_reused += (n_image if image.restored else sequences.n_prefix) + n_image * len(questions)
    return ratings


def how_many_fit(
    sequences: SequenceCache, image: CachedImage, labels: LabelTokens, questions: Sequence[Sequence[int]]
) -> int:
    """Return how many questions can be asked at once, one at least: the scheduler says so if one is too many."""
    n_cells = np.cumsum([_cells_of(labels, question) for question in questions])
    by_cells = int(np.count_nonzero(n_cells <= sequences.n_cells - image.n_rows))
    by_sequences = (sequences.context.n_seq_max - 2) // (1 + len(labels.prefixes))
    return max(1, min(by_cells, by_sequences))


def how_many_images_fit(
    sequences: SequenceCache, n_rows: int, labels: LabelTokens, questions: Sequence[Sequence[int]]
) -> int:
    """Return how many images of so many rows can be asked all questions at once, one at least."""
    n_cells = sequences.n_prefix + n_rows + sum(_cells_of(labels, question) for question in questions)
    n_sequences = 1 + len(questions) * (1 + len(labels.prefixes))
    return max(1, min(sequences.n_cells // n_cells, (sequences.context.n_seq_max - 1) // n_sequences))


def _cells_of(labels: LabelTokens, question: Sequence[int]) -> int:
    return len(question) + sum(map(len, labels.prefixes))


def _rate(
    sequences: SequenceCache, labels: LabelTokens, questions: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]
) -> Job[list[list[Rating]]]:
    """Ask the same questions of several images; each group has the forks of one of them."""
    prefixes, context, n = labels.prefixes, sequences.context, len(questions)
    tails = [(seq_ids[i], question) for seq_ids in groups for i, question in enumerate(questions)]
    first: Logits = yield DecodeTokens(tails, fetch=True)
    context.model.check_logits(first)
    after: list[Mapping[tuple[int, ...], Logits]] = [{} for _ in tails]
    if prefixes:
        begun = []
        for seq_ids in groups:
            for i, seq_id in enumerate(seq_ids[n:]):
                context.fork(seq_ids[i // len(prefixes)], seq_id)
                begun.append((seq_id, prefixes[i % len(prefixes)]))
        logits: Logits = yield DecodeTokens(begun, fetch=True)
        context.model.check_logits(logits)
        by_question = logits.reshape(len(tails), len(prefixes), -1)
        after = [dict(zip(prefixes, rows, strict=True)) for rows in by_question]
    ratings = [rate(labels, logits, rest) for logits, rest in zip(first, after, strict=True)]
    return [ratings[i * n : (i + 1) * n] for i in range(len(groups))]


def forced(seq_id: int, prompt: Sequence[int], answer: Sequence[int]) -> DecodeTokens:
    """Return the request that continues a sequence with a prompt and an answer that is given, not chosen.

    What comes back is the logits from which each token of the answer would have been chosen, float32 [n, n_vocab].
    """
    return DecodeTokens([(seq_id, prompt), *((seq_id, (token,)) for token in answer[:-1])], fetch=True)


def sampler_of(model: LanguageModel, writing: Writing) -> Sampler:
    """Return what chooses the tokens of an answer; the caller closes it."""
    return Sampler(writing.sampling, GrammarState(model, writing.grammar) if writing.grammar is not None else None)


def write(
    sequences: SequenceCache, seq_id: int, prompt: Sequence[int], begun: Started, writing: Writing, reply: Reply
) -> Job[None]:
    """Continue a sequence with a prompt, and then with an answer that is chosen token by token.

    What a grammar leaves no choice about goes out together with the token before it, and at the start with the
    prompt. The caller has reserved room for the prompt, for what the answer begins with, and for one token. Where
    room runs out later, the answer leaves the cache for those who came before it, and goes on when they are done.

    Args:
        sequences: the KV cache.
        seq_id: the sequence.
        prompt: one token or more.
        begun: the sampler, and the step with which it began.
        writing: how.
        reply: is told every piece of text.
    """
    context = sequences.context
    sampler, step = begun
    n_start = context.n_past(seq_id)
    stream = TextStream(writing.stop, writing.sentences)
    pending = [*prompt, *step.tokens[: writing.max_tokens]]
    if reply.past_deadline():  # looking alone took too long
        reply.finish("", "deadline")
        return
    try:
        row = yield from _append(context, seq_id, n_start, pending, pending)
        while not _emit(context.model, step, stream, writing, reply):
            # The first step came with the prompt; later ones are decoded when they are told.
            if step is not begun[1]:
                row = yield from _append(context, seq_id, n_start, step.tokens, [*prompt, *reply.tokens])
            step = sampler.step(context, row)
    except GeneratorExit:
        reply.finish(stream.finish(), "cancelled")
        raise
    except ContextFullError:
        if not reply.tokens:
            raise
        reply.finish(stream.finish(), "length")


def _append(context: Context, seq_id: int, n_start: int, pending: Sequence[int], everything: Sequence[int]) -> Job[int]:
    """Append tokens to a sequence and return the row of the last one; after making room, everything from the start."""
    while True:
        try:
            row: int = yield DecodeTokens([(seq_id, pending)])
        except Preempted:
            context.truncate(seq_id, n_start)
            pending = everything
            yield Reserve(0, len(pending) + 1)
        else:
            return row


def _emit(model: LanguageModel, step: Step, stream: TextStream, writing: Writing, reply: Reply) -> bool:
    """Tell a reply what comes next; returns whether it is over."""
    for token in step.tokens:
        reply.add(token, stream.feed(model.piece(token)))
        if stream.stopped:
            reply.finish("", "stop")
        elif len(reply.tokens) >= writing.max_tokens:
            reply.finish(stream.finish(), "length")
        elif reply.past_deadline():
            reply.finish(stream.finish(), "deadline")
        else:
            continue
        return True
    if step.ended:
        reply.finish(stream.finish(), "stop")
    return step.ended
