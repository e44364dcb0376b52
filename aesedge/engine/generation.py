"""Scheduler jobs that rate labels and generate text. They run on the scheduler's thread, between two batches."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.engine.logprobs import token_logprob
from aesedge.engine.rating import LabelTokens, rate
from aesedge.errors import ContextFullError
from aesedge.llm import GrammarState, Sampler, Step
from aesedge.llm.text_stream import TextStream
from aesedge.scheduling.requests import DecodeTokens, Job, Preempted, Reserve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aesedge.engine.completion import Completion
    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.results import Rating
    from aesedge.engine.timings import TimingsRecorder
    from aesedge.llm import Context, LanguageModel
    from aesedge.scheduling.kv_cache import CachedImage, SequenceCache

Logits = npt.NDArray[np.float32]
Started = tuple[Sampler, Step]


def acquire(
    sequences: SequenceCache, image: CachedImage, recorder: TimingsRecorder, *, n_forks: int = 0, n_cells: int = 0
) -> Job[list[int]]:
    """Run :meth:`SequenceCache.acquire`, and record what it cost."""
    forks, loaded = yield from sequences.acquire(image, n_forks=n_forks, n_cells=n_cells)
    if loaded:
        n_image = sequences.n_positions(image)
        recorder.add(n_prompt=n_image, n_reused=n_image if image.restored else sequences.n_prefix)
    return forks


def prefill(sequences: SequenceCache, image: CachedImage, recorder: TimingsRecorder) -> Job[None]:
    """Bring an image into the KV cache, if it is not there."""
    before = time.perf_counter()
    yield from acquire(sequences, image, recorder)
    recorder.add(prefill_s=time.perf_counter() - before)


def rate_all(
    sequences: SequenceCache,
    image: CachedImage,
    labels: LabelTokens,
    questions: Sequence[Sequence[int]],
    recorder: TimingsRecorder,
) -> Job[list[Rating]]:
    """Rate questions by the next-token probabilities of the labels, as many in one batch as there is room for.

    Args:
        sequences: the KV cache.
        image: what the questions are about.
        labels: the answers whose probabilities are read.
        questions: tokens of each.
        recorder: where times and counts are added.
    """
    before = time.perf_counter()
    ratings: list[Rating] = []
    while len(ratings) < len(questions):
        rest = questions[len(ratings) :]
        group = rest[: how_many_fit(sequences, image, labels, rest)]
        n_forks = len(group) * (1 + len(labels.prefixes))
        n_cells = sum(_cells_of(labels, question) for question in group)
        seq_ids = yield from acquire(sequences, image, recorder, n_forks=n_forks, n_cells=n_cells)
        try:
            with sequences.pinned(image):
                (found,) = yield from _rate(sequences, labels, group, [seq_ids])
                ratings += found
        finally:
            sequences.release(seq_ids)
        n_past = sequences.n_positions(image) * len(group)
        recorder.add(n_prompt=sum(map(len, group)) + n_past, n_reused=n_past)
    recorder.add(prefill_s=time.perf_counter() - before)
    return ratings


def rate_new(
    sequences: SequenceCache,
    images: Sequence[CachedImage],
    labels: LabelTokens,
    questions: Sequence[Sequence[int]],
    recorders: Sequence[TimingsRecorder],
) -> Job[list[list[Rating]]]:
    """Rate several images that were not in the KV cache before, in shared batches; see :func:`rate_all`.

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
    for image, recorder in zip(images, recorders, strict=True):
        n_image = sequences.n_positions(image)
        recorder.add(
            prefill_s=took,
            n_prompt=n_image + sum(map(len, questions)) + n_image * len(questions),
            n_reused=(n_image if image.restored else sequences.n_prefix) + n_image * len(questions),
        )
    return ratings


def how_many_fit(
    sequences: SequenceCache, image: CachedImage, labels: LabelTokens, questions: Sequence[Sequence[int]]
) -> int:
    """Return how many questions can be asked at once; at least one, which the scheduler fails if it does not fit."""
    n_cells = np.cumsum([_cells_of(labels, question) for question in questions])
    by_cells = int(np.count_nonzero(n_cells <= sequences.n_cells - image.n_rows))
    by_sequences = (sequences.context.n_seq_max - 2) // (1 + len(labels.prefixes))
    return max(1, min(by_cells, by_sequences))


def how_many_images_fit(
    sequences: SequenceCache, n_rows: int, labels: LabelTokens, questions: Sequence[Sequence[int]]
) -> int:
    """Return how many images of ``n_rows`` positions each can be asked all questions at once; at least one."""
    n_cells = sequences.n_prefix + n_rows + sum(_cells_of(labels, question) for question in questions)
    n_sequences = 1 + len(questions) * (1 + len(labels.prefixes))
    return max(1, min(sequences.n_cells // n_cells, (sequences.context.n_seq_max - 1) // n_sequences))


def _cells_of(labels: LabelTokens, question: Sequence[int]) -> int:
    return len(question) + sum(map(len, labels.prefixes))


def _rate(
    sequences: SequenceCache, labels: LabelTokens, questions: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]
) -> Job[list[list[Rating]]]:
    """Rate the same questions for several images; each group holds the sequences forked from one of them."""
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


def teacher_forced(seq_id: int, prompt: Sequence[int], answer: Sequence[int]) -> DecodeTokens:
    """Return the request that continues a sequence with a prompt and a given answer.

    Its result is the logits from which each token of the answer would have been chosen, float32 [n, n_vocab].
    """
    return DecodeTokens([(seq_id, prompt), *((seq_id, (token,)) for token in answer[:-1])], fetch=True)


def sampler_of(model: LanguageModel, options: GenerationOptions) -> Sampler:
    """Return the sampler of an answer; the caller closes it."""
    grammar = GrammarState(model, options.grammar) if options.grammar is not None else None
    return Sampler(options, grammar, forces=options.top_logprobs is None)


def n_cells_to_start(prompt: Sequence[int], first: Step, options: GenerationOptions) -> int:
    """Return the KV cells that :func:`write` needs to begin: the prompt, what is forced after it, and one token."""
    return len(prompt) + min(len(first.tokens), options.max_tokens) + 1


def write(sequences: SequenceCache, seq_id: int, prompt: Sequence[int], started: Started, out: Completion) -> Job[None]:
    """Continue a sequence with a prompt, and then with an answer that is chosen token by token.

    Tokens that a grammar leaves no choice about are decoded together with the one before them, and at the start with
    the prompt. The caller has reserved :func:`n_cells_to_start`. Where the KV cache is full later, the answer leaves
    it for those that came before, and continues when they have ended.

    Args:
        sequences: the KV cache.
        seq_id: the sequence.
        prompt: at least one token.
        started: the sampler, and its first step.
        out: gets tokens and text.
    """
    context, options = sequences.context, out.options
    sampler, step = started
    n_start = context.n_past(seq_id)
    stream = TextStream(options.stop, options.sentences)
    pending = [*prompt, *step.tokens[: options.max_tokens]]
    if out.past_deadline:  # the vision tower alone took too long
        out.finish("", "deadline")
        return
    try:
        row = yield from _append(context, seq_id, n_start, pending, pending)
        while not _emit(context.model, step, stream, out):
            # The first step's tokens were decoded with the prompt; later ones are decoded after they were emitted.
            if step is not started[1]:
                row = yield from _append(context, seq_id, n_start, step.tokens, [*prompt, *out.tokens])
            step = sampler.step(context, row)
            if options.top_logprobs is not None and step.tokens:
                logits = context.logits(row)
                out.logprobs.append(token_logprob(context.model, logits, step.tokens[0], options.top_logprobs))
    except GeneratorExit:
        out.finish(stream.finish(), "cancelled")
        raise
    except ContextFullError:
        if not out.tokens:
            raise
        out.finish(stream.finish(), "length")


def _append(context: Context, seq_id: int, n_start: int, pending: Sequence[int], everything: Sequence[int]) -> Job[int]:
    """Append tokens to a sequence and return the row of the last one; after a preemption, everything from the start."""
    while True:
        try:
            row: int = yield DecodeTokens([(seq_id, pending)])
        except Preempted:
            context.truncate(seq_id, n_start)
            pending = everything
            yield Reserve(0, len(pending) + 1)
        else:
            return row


def _emit(model: LanguageModel, step: Step, stream: TextStream, out: Completion) -> bool:
    """Add the tokens of a step to the answer; return whether it has ended."""
    for token in step.tokens:
        out.add(token, stream.feed(model.piece(token)))
        if stream.stopped:
            out.finish("", "stop")
        elif len(out.tokens) >= out.options.max_tokens:
            out.finish(stream.finish(), "length")
        elif out.past_deadline:
            out.finish(stream.finish(), "deadline")
        else:
            continue
        return True
    if step.ended:
        out.finish(stream.finish(), "stop")
    return step.ended
