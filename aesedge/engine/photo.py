"""One photo that was looked at: its ratings, answers and conversations, all over one image in the KV cache.

Knows questions; how the image gets into the cache is ``sequences``' business, how it was read is ``engine``'s.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from aesedge.engine.completion import Reply, Writing
from aesedge.engine.conversation import Conversation
from aesedge.engine.generation import acquire, prefill, rate_all, sampler_of, write
from aesedge.engine.report import write_report
from aesedge.engine.results import Answer, CacheState, PhotoResult, Report, Timings, rating_json
from aesedge.errors import UsageError
from aesedge.scheduling.sequences import CachedImage
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.engine.model import Model
    from aesedge.engine.rating import Rating
    from aesedge.scheduling.requests import Job, Priority
    from aesedge.scheduling.scheduler import JobFuture
    from aesedge.vision.encoder import EncodedImage

T = TypeVar("T")


class Photo(Closing):
    """A photo in a model's eye. Made by :meth:`aesedge.engine.model.Model.look`; close it, or use ``with``."""

    def __init__(self, model: Model, name: str, encoded: EncodedImage, started: float, priority: Priority) -> None:
        self._model = model
        self._sequences = model.sequences
        self._encoded = encoded
        self._kv_key = model.kv_store.key(encoded.key)
        self._image = CachedImage(
            encoded.embeddings, len(encoded.rows), self._restore if model.kv_store.has(self._kv_key) else None
        )
        self._started = started
        self._priority = priority
        self.name = name
        self.remarks = encoded.remarks
        self.timings = Timings(decode_image_s=encoded.decode_image_s, vision_s=encoded.vision_s)

    @property
    def image_embeddings(self) -> npt.NDArray[np.float32]:
        """What the tower saw, float32 [n_image_tokens, n_embd]."""
        return self._encoded.embeddings()

    @property
    def image(self) -> CachedImage:
        """Its place in the KV cache, for work of one's own on the scheduler."""
        return self._image

    @property
    def cache_state(self) -> CacheState:
        """What of it was known: ``cold`` nothing, ``embeddings`` what the tower saw, ``kv`` the prefill too."""
        return "kv" if self._image.restored else "embeddings" if self._encoded.cached else "cold"

    def pin(self) -> bool:
        """Keep the prefilled image on disk: after a restart it answers without tower and prefill.

        Returns:
            Whether it is kept; a full or unwritable disk is a remark and no error.
        """
        if self._model.kv_store.has(self._kv_key):
            return True
        state = self._do(self._save())
        return self._model.kv_store.put(self._kv_key, state, self._sequences.n_positions(self._image), pinned=True)

    def unpin(self) -> bool:
        """Remove it from the disk again; returns whether it was there."""
        self._image.restore = None
        return self._model.kv_store.delete(self._kv_key)

    def _save(self) -> Job[npt.NDArray[np.uint8]]:
        yield from prefill(self._sequences, self._image, self.timings)
        return self._sequences.context.save(self._image.seq_id or 0)

    def _restore(self, seq_id: int) -> bool:
        return self._model.kv_store.restore(self._kv_key, seq_id, self._sequences.n_positions(self._image))

    def prefill(self) -> None:
        """See that the image is in the KV cache; asking does it by itself."""
        self._do(prefill(self._sequences, self._image, self.timings))

    def rate(self, questions: Sequence[str]) -> list[Rating]:
        """Return how the model answers questions whose answers are the bundle's labels, without generating text.

        All questions are prefilled together after the one image, as many at a time as there is room for.
        """
        tokens = [self._tokens(q) for q in questions]
        return self._do(rate_all(self._sequences, self._image, self._model.labels, tokens, self.timings))

    def _do(self, work: Job[T]) -> T:
        return self._model.scheduler.submit(work, priority=self._priority).wait()

    def score(self) -> Rating:
        """Return the overall rating, from the bundle's score question."""
        return self.rate([self._model.manifest.rating.question])[0]

    def attributes(self) -> dict[str, Rating]:
        """Return the rating of every attribute that the bundle names."""
        questions = self._model.manifest.rating.attributes
        return dict(zip(questions, self.rate(list(questions.values())), strict=True))

    def score_and_attributes(self) -> tuple[Rating, dict[str, Rating]]:
        """Return both, in one batch."""
        r = self._model.manifest.rating
        first, *others = self.rate([r.question, *r.attributes.values()])
        return first, dict(zip(r.attributes, others, strict=True))

    def ask(self, question: str, writing: Writing | None = None) -> Reply:
        """Ask anything; iterate over the reply for its text, piece by piece, read it whole, or await it.

        Raises:
            UsageError: the question is empty.
            ContextFullError: while reading, when the question does not fit.
        """
        tokens = self._tokens(question)
        chosen = writing or Writing()

        def submit(reply: Reply) -> JobFuture[None]:
            work = self._answer(tokens, chosen, reply)
            return self._model.scheduler.submit(work, priority=self._priority, preemptible=True)

        return Reply(submit, chosen, self.timings, self._started)

    def ask_many(self, questions: Sequence[str], writing: Writing | None = None) -> list[Reply]:
        """Ask several things at once: the answers are written together, over the one image.

        Raises:
            UsageError: a question is empty.
        """
        return [reply.start() for reply in [self.ask(question, writing) for question in questions]]

    def _answer(self, question: Sequence[int], writing: Writing, reply: Reply) -> Job[None]:
        sequences, image = self._sequences, self._image
        reply.begin()
        with sampler_of(self._model.llm, writing) as sampler:
            begun = sampler, sampler.begin()
            n_cells = len(question) + min(len(begun[1].tokens), writing.max_tokens) + 1
            seq_ids = yield from acquire(sequences, image, self.timings, n_forks=1, n_cells=n_cells)
            try:
                self._count(sequences.n_positions(image) + len(question), sequences.n_positions(image))
                with sequences.pinned(image):
                    yield from write(sequences, seq_ids[0], question, begun, writing, reply)
            finally:
                sequences.release(seq_ids)
                reply.account()

    def critique(self, writing: Writing | None = None) -> Reply:
        """Ask the bundle's critique question."""
        return self.ask(self._model.manifest.prompt.critique, writing)

    def report(self, writing: Writing | None = None) -> Report:
        """Write a structured critique; its fields are written together, over the one image.

        Args:
            writing: how each field is written; what a field may look like is the report's own matter.
        """
        return write_report(self.ask, list(self._model.manifest.rating.attributes), writing or Writing())

    def conversation(self) -> Conversation:
        """Begin a conversation of several turns."""
        return Conversation(self._model, self._image)

    def result(
        self,
        score: Rating,
        attributes: Mapping[str, Rating],
        *,
        critique: Reply | None = None,
        report: Report | None = None,
        answers: Sequence[tuple[str, Reply]] = (),
    ) -> PhotoResult:
        """Put everything that is known of the photo together."""
        model = self._model
        self.timings.total_s = time.perf_counter() - self._started
        last = answers[-1][1] if answers else critique
        return PhotoResult(
            photo=self.name,
            bundle=model.bundle.name,
            gguf=model.gguf.lower(),
            vision=model.vision.lower(),
            image_tokens=self._image.n_rows,
            cache=self.cache_state,
            remarks=list(self.remarks),
            score=score.score,
            rating=score.rating,
            entropy=score.entropy,
            off_label=score.off_label,
            attributes={name: rating_json(r) for name, r in attributes.items()},
            critique=critique.text.strip() if critique else None,
            report=report,
            answers=[Answer(question, reply.text.strip()) for question, reply in answers],
            finish_reason=last.finish_reason if last else None,
            timings=self.timings,
        )

    def _tokens(self, question: str) -> list[int]:
        if not question.strip():
            raise UsageError("the question is empty")
        return self._model.question_tokens(question)

    def _count(self, n_prompt: int, n_reused: int) -> None:
        self.timings.n_prompt += n_prompt
        self.timings.n_reused += n_reused

    def close(self) -> None:
        """Leave the KV cache. Closing twice does nothing; a photo that is asked again comes back."""
        with suppress(UsageError):  # the model was closed: nothing is there any more
            self._model.scheduler.call(self._leave).wait()

    def _leave(self) -> None:
        if not self._image.n_users:
            self._sequences.evict(self._image)
