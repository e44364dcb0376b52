"""Ratings and answers as work for the scheduler; knows tokens, sequences and images, not what is asked or seen.

Everything here runs on the scheduler's thread, between two batches.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.errors import ContextFullError
from aesedge.llm.sampler import Sampler
from aesedge.llm.text import TextStream
from aesedge.rating import LabelTokens, Rating, rate
from aesedge.scheduler import Append, Preempted, Room, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aesedge.reply import Reply, Writing
    from aesedge.residents import ResidentImage, Residents
    from aesedge.result import Timings

Logits = npt.NDArray[np.float32]


def bring(
    residents: Residents, image: ResidentImage, timings: Timings, *, n_forks: int = 0, n_cells: int = 0
) -> Work[list[int]]:
    """Do what :meth:`Residents.bring` does, and count what it cost."""
    forks, brought = yield from residents.bring(image, n_forks=n_forks, n_cells=n_cells)
    if brought:
        timings.n_prompt += residents.n_positions(image)
        timings.n_reused += residents.n_positions(image) if image.restored else residents.n_prefix
    return forks


def prefill(residents: Residents, image: ResidentImage, timings: Timings) -> Work[None]:
    """See that an image is in the cache."""
    before = time.perf_counter()
    yield from bring(residents, image, timings)
    timings.prefill_s += time.perf_counter() - before


def rate_all(
    residents: Residents,
    image: ResidentImage,
    labels: LabelTokens,
    questions: Sequence[Sequence[int]],
    timings: Timings,
) -> Work[list[Rating]]:
    """Read the ratings of questions off the next-token distribution, as many in one batch as there is room for.

    Args:
        residents: the KV cache.
        image: what the questions are about.
        labels: the answers that are looked for.
        questions: tokens of each.
        timings: where times and counts are added.
    """
    before = time.perf_counter()
    ratings: list[Rating] = []
    while len(ratings) < len(questions):
        rest = questions[len(ratings) :]
        group = rest[: how_many_fit(residents, image, labels, rest)]
        n_forks = len(group) * (1 + len(labels.prefixes))
        n_cells = sum(_cells_of(labels, question) for question in group)
        seq_ids = yield from bring(residents, image, timings, n_forks=n_forks, n_cells=n_cells)
        try:
            with residents.using(image):
                ratings += yield from _rate_group(residents, labels, group, seq_ids)
        finally:
            residents.give_back(seq_ids)
        n_past = residents.n_positions(image) * len(group)
        timings.n_prompt += sum(map(len, group)) + n_past
        timings.n_reused += n_past
    timings.prefill_s += time.perf_counter() - before
    return ratings


def how_many_fit(
    residents: Residents, image: ResidentImage, labels: LabelTokens, questions: Sequence[Sequence[int]]
) -> int:
    """Return how many questions can be asked at once, one at least: the scheduler says so if one is too many."""
    n_cells = np.cumsum([_cells_of(labels, question) for question in questions])
    by_cells = int(np.count_nonzero(n_cells <= residents.n_cells - image.n_rows))
    by_sequences = (residents.context.n_seq_max - 2) // (1 + len(labels.prefixes))
    return max(1, min(by_cells, by_sequences))


def _cells_of(labels: LabelTokens, question: Sequence[int]) -> int:
    return len(question) + sum(map(len, labels.prefixes))


def _rate_group(
    residents: Residents, labels: LabelTokens, questions: Sequence[Sequence[int]], seq_ids: Sequence[int]
) -> Work[list[Rating]]:
    prefixes, context = labels.prefixes, residents.context
    asked, begun = seq_ids[: len(questions)], seq_ids[len(questions) :]
    first: Logits = yield Append(list(zip(asked, questions, strict=True)), fetch=True)
    after: list[Mapping[tuple[int, ...], Logits]] = [{} for _ in questions]
    if prefixes:
        for i, seq_id in enumerate(begun):
            context.fork(asked[i // len(prefixes)], seq_id)
        parts = [(seq_id, prefixes[i % len(prefixes)]) for i, seq_id in enumerate(begun)]
        logits: Logits = yield Append(parts, fetch=True)
        by_question = logits.reshape(len(questions), len(prefixes), -1)
        after = [dict(zip(prefixes, rows, strict=True)) for rows in by_question]
    return [rate(labels, logits, rest) for logits, rest in zip(first, after, strict=True)]


def forced(seq_id: int, prompt: Sequence[int], answer: Sequence[int]) -> Append:
    """Return the request that continues a sequence with a prompt and an answer that is given, not chosen.

    What comes back is the logits from which each token of the answer would have been chosen, float32 [n, n_vocab].
    """
    return Append([(seq_id, prompt), *((seq_id, (token,)) for token in answer[:-1])], fetch=True)


def write(residents: Residents, seq_id: int, prompt: Sequence[int], writing: Writing, reply: Reply) -> Work[None]:
    """Continue a sequence with a prompt, and then with an answer that is chosen token by token.

    The caller has reserved room for the prompt and one token. Where room runs out later, the answer leaves the cache
    for those who came before it, and goes on when they are done.

    Args:
        residents: the KV cache.
        seq_id: the sequence.
        prompt: one token or more.
        writing: how.
        reply: is told every piece of text.
    """
    context, model = residents.context, residents.context.model
    n_start = context.n_past(seq_id)
    stream = TextStream(writing.stop)
    pending = list(prompt)
    with Sampler(writing.sampling) as sampler:
        while True:
            try:
                row: int = yield Append([(seq_id, pending)])
            except Preempted:
                context.truncate(seq_id, n_start)
                pending = [*prompt, *reply.tokens]
                yield Room(0, len(pending) + 1)
                continue
            except GeneratorExit:
                reply.finish(stream.finish(), "cancelled")
                raise
            except ContextFullError:
                if not reply.tokens:
                    raise
                reply.finish(stream.finish(), "length")
                return
            token = sampler.sample(context, row)
            if model.is_end(token):
                reply.finish(stream.finish(), "stop")
                return
            reply.add(token, stream.feed(model.piece(token)))
            if stream.stopped:
                reply.finish("", "stop")
                return
            if len(reply.tokens) >= writing.max_tokens:
                reply.finish(stream.finish(), "length")
                return
            if writing.deadline is not None and time.perf_counter() >= writing.deadline:
                reply.finish(stream.finish(), "deadline")
                return
            pending = [token]
