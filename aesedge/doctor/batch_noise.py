"""Measure what a backend changes by itself when the same thing is computed in other batches, without any reuse.

One photo and one question at a time, nothing kept and nothing shared: only the pieces in which image and question go
through the model differ, and what stands in the batch beside them. So no fault of reuse can raise this floor. What
stands beside is a text of its own, without an image. Were it to leak into the answer, the floor would be as high as
photos are apart, and the examination would fail because it cannot tell them apart.
"""

from __future__ import annotations

from itertools import combinations, cycle, groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from aesedge.doctor import probe
from aesedge.doctor.difference import Difference, Floors, Limits, between_texts, largest
from aesedge.doctor.probe import Seen, between
from aesedge.engine.generation import teacher_forced
from aesedge.engine.likelihood import likelihood_of
from aesedge.engine.rating import rate
from aesedge.scheduling.requests import DecodeTokens, Job, PrefillEmbeddings, Reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference
    from aesedge.engine.likelihood import Likelihood
    from aesedge.engine.model import Model
    from aesedge.engine.results import Rating

    Logits = npt.NDArray[np.float32]


class BatchLayout(NamedTuple):
    """How batches are put together; 0 is as the engine does it for one question about one photo."""

    n_image: int = 0
    """Rows of the image at a time."""
    n_before: int = 0
    """Cells of another sequence between those of the text before the image and those of the image."""
    n_between: int = 0
    """Cells of another sequence between those of the image and those of the question."""
    n_question: int = 0
    """Tokens of the question at a time."""
    n_beside: int = 0
    """Tokens of another sequence in the same batch."""

    @property
    def image(self) -> tuple[int, int]:
        """What the prefill of the image depends on."""
        return self.n_image, self.n_before


SAME = (BatchLayout(), BatchLayout(n_between=50), BatchLayout(n_before=27), BatchLayout(n_before=250, n_between=50))
"""The batches are the cold reading's; where in the cache they lie is not."""
OTHER = (
    *(BatchLayout(n_question=n) for n in (1, 4, 16, 32)),
    *(BatchLayout(n_question=n, n_beside=64) for n in (0, 16)),
    BatchLayout(n_beside=150, n_between=50),
    BatchLayout(n_image=48),
    BatchLayout(n_image=48, n_beside=64),
)
"""Single tokens, as in answers; rows below and above the 64 at which llama.cpp's flash attention on the CPU changes."""


def noise_floors(
    under_test: BundleUnderTest, cold: ColdReference, photos: Sequence[Path], show: Callable[[float], None]
) -> Floors:
    """Return the largest change between any two readings of a photo: in the same batches, and in any.

    A conversation has a floor of its own, measured on the first photo: more of it is computed in other batches.
    """
    same, other, turns = Difference(), Difference(), Difference()
    for i, path in enumerate(photos):
        asked = cold.seen(path)
        with under_test.fresh() as model:  # one for each photo: it must not take one photo for another
            readings = _readings(model, path, with_turns=i == 0)
        seen = {layout: reading[0] for layout, reading in readings.items()}
        later = [text for _, text in readings.values() if text is not None]
        same |= _spread(asked, *(seen[layout] for layout in SAME))
        other |= _spread(asked, *seen.values())
        turns |= largest(between_texts(a, b) for a, b in combinations(later, 2))
        show((i + 1) / len(photos))
    return Floors(Limits(same), Limits(other), Limits(turns))


def _spread(*seen: Seen) -> Difference:
    return largest(between(a, b) for a, b in combinations(seen, 2))


def _readings(model: Model, path: Path, *, with_turns: bool) -> dict[BatchLayout, tuple[Seen, Likelihood | None]]:
    """Read a photo in all layouts, and after the second question of a conversation if asked to."""
    embeddings = model.internals.encoder.encode(path).embeddings()
    turns: list[int] = []
    if with_turns:
        with model.look(path) as photo:
            said = photo.ask(model.manifest.rating.question, max_tokens=probe.N_SAID)
        turns = probe.second_turn(model, said.tokens)
    found: dict[BatchLayout, tuple[Seen, Likelihood | None]] = {}
    for _, layouts in groupby(sorted(SAME + OTHER, key=lambda layout: layout.image), key=lambda layout: layout.image):
        found |= model.internals.scheduler.submit(_read_all(model, embeddings, turns, list(layouts))).wait()
    return found


def _read_all(
    model: Model, embeddings: npt.NDArray[np.float32], turns: Sequence[int], layouts: Sequence[BatchLayout]
) -> Job[dict[BatchLayout, tuple[Seen, Likelihood | None]]]:
    """Prefill an image, and read it in layouts that differ in the rest."""
    sequences, n_piece = model.internals.sequences, layouts[0].n_image or len(embeddings)
    before = yield from _filled(model, layouts[0].n_before)
    (image,) = yield Reserve(1, len(embeddings))
    sequences.context.fork(sequences.prefix_seq_id, image)
    for start in range(0, len(embeddings), n_piece):
        yield PrefillEmbeddings([(image, embeddings[start : start + n_piece])])
    sequences.release(before)
    found: dict[BatchLayout, tuple[Seen, Likelihood | None]] = {}
    for layout in layouts:
        filled = yield from _filled(model, layout.n_between)
        text = yield from _read_text(model, image, probe.prompt(model), layout)
        rating = yield from _read_rating(model, image, layout)
        later = (yield from _read_text(model, image, turns, layout)) if turns else None
        found[layout] = Seen(text, rating), later
        sequences.release(filled)
    sequences.release([image])
    return found


def _read_text(model: Model, image: int, tokens: Sequence[int], layout: BatchLayout) -> Job[Likelihood]:
    answer = probe.answer(model)
    seq_id, rest = yield from _begun(model, image, tokens, layout)
    logits = yield from _beside(model, teacher_forced(seq_id, rest, answer).parts, layout)
    model.internals.sequences.release([seq_id])
    return likelihood_of(logits, answer)


def _read_rating(model: Model, image: int, layout: BatchLayout) -> Job[Rating]:
    seq_id, rest = yield from _begun(model, image, probe.score_prompt(model), layout)
    (first,) = yield from _beside(model, [(seq_id, rest)], layout)
    after = {}
    for prefix in model.internals.labels.prefixes:
        (fork,) = yield Reserve(1, len(prefix))
        model.internals.sequences.context.fork(seq_id, fork)
        (after[prefix],) = yield from _beside(model, [(fork, prefix)], layout)
        model.internals.sequences.release([fork])
    model.internals.sequences.release([seq_id])
    return rate(model.internals.labels, first, after)


def _begun(model: Model, image: int, tokens: Sequence[int], layout: BatchLayout) -> Job[tuple[int, Sequence[int]]]:
    """Begin a question about an image in pieces; return its sequence, and what is left of it."""
    n_piece = layout.n_question or len(tokens)
    n_begun = (len(tokens) - 1) // n_piece * n_piece
    (seq_id,) = yield Reserve(1, len(tokens))
    model.internals.sequences.context.fork(image, seq_id)
    for start in range(0, n_begun, n_piece):
        yield DecodeTokens([(seq_id, tokens[start : start + n_piece])])
    return seq_id, tokens[n_begun:]


def _beside(model: Model, parts: Sequence[tuple[int, Sequence[int]]], layout: BatchLayout) -> Job[Logits]:
    """Append parts in one batch with another text, and return the logits of the parts."""
    if not layout.n_beside:
        logits: Logits = yield DecodeTokens(parts, fetch=True)
        return logits
    (other,) = yield Reserve(1, layout.n_beside)
    both: Logits = yield DecodeTokens([(other, _other_text(model, layout.n_beside)), *parts], fetch=True)
    model.internals.sequences.release([other])
    return both[1:]


def _filled(model: Model, n: int) -> Job[list[int]]:
    """Fill cells with another text; return its sequence, if there is any."""
    if not n:
        return []
    seq_ids: list[int] = yield Reserve(1, n)
    yield DecodeTokens([(seq_ids[0], _other_text(model, n))])
    return seq_ids


def _other_text(model: Model, n: int) -> list[int]:
    return [model.internals.llm.bos, *islice(cycle(probe.answer(model)), n - 1)]
