"""A photo: its ratings, answers and conversations, all over one image in the KV cache."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from aesedge.engine.answer import AnswerStream, read_all
from aesedge.engine.completion import Completion
from aesedge.engine.conversation import Conversation, check_question, check_questions
from aesedge.engine.generation import acquire, n_cells_to_start, rate_all, sampler_of, write
from aesedge.engine.generation import prefill as bring_in
from aesedge.engine.generation_options import with_keywords
from aesedge.engine.report import write_report
from aesedge.engine.results import AskedAnswer, PhotoResult
from aesedge.engine.timings import Timings, TimingsRecorder
from aesedge.errors import UsageError
from aesedge.scheduling.kv_cache import CachedImage
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    from aesedge.engine.answer import Answer
    from aesedge.engine.generation_options import GenerationKeywords, GenerationOptions
    from aesedge.engine.internals import Internals
    from aesedge.engine.results import CacheState, Rating, Report
    from aesedge.scheduling.requests import Job, Priority
    from aesedge.vision.encoder import EncodedImage

T = TypeVar("T")


@dataclass(frozen=True)
class PhotoInternals:
    """A photo's entry in the KV cache, and what records its timings."""

    image: CachedImage
    recorder: TimingsRecorder


class Photo(Closing):
    """An encoded photo, created by :meth:`Model.look`. Close it, or use ``with``.

    Args:
        internals: the model's.
        name: what results call it.
        encoded: by the vision tower.
        started: when the user's call began, by ``time.perf_counter``.
        priority: of everything that is asked about it.
        prefill: whether to bring the image into the KV cache now, and not with the first question.
    """

    def __init__(
        self,
        internals: Internals,
        name: str,
        encoded: EncodedImage,
        started: float,
        priority: Priority,
        *,
        prefill: bool = True,
    ) -> None:
        kv_store = internals.kv_store
        self._model = internals
        self._sequences = internals.sequences
        self._encoded = encoded
        self._kv_key = kv_store.key(encoded.key)
        self._image = CachedImage(
            encoded.embeddings, len(encoded.rows), self._restore if kv_store.has(self._kv_key) else None
        )
        self._started = started
        self._priority = priority
        self._recorder = TimingsRecorder(
            started, initial=Timings(decode_image_s=encoded.decode_image_s, vision_s=encoded.vision_s)
        )
        self.name = name
        self.remarks = tuple(encoded.warnings)
        """Damage that the decoder found in the file, and what it had to guess or leave out."""
        if prefill:
            self._do(bring_in(self._sequences, self._image, self._recorder))

    @property
    def timings(self) -> Timings:
        """Where its time went so far."""
        return self._recorder.timings

    @property
    def image_embeddings(self) -> npt.NDArray[np.float32]:
        """The projector's output, float32 [n_image_tokens, n_embd]."""
        return self._encoded.embeddings()

    @property
    def cache_state(self) -> CacheState:
        """What was known of it before: ``cold`` nothing, ``embeddings`` those, ``kv`` the image's KV state too."""
        return "kv" if self._image.restored else "embeddings" if self._encoded.cached else "cold"

    @property
    def internals(self) -> PhotoInternals:
        """For aesedge's own commands; they may change with every release."""
        return PhotoInternals(self._image, self._recorder)

    def pin(self) -> bool:
        """Keep the prefilled image on disk: after a restart it answers without vision tower and prefill.

        Returns:
            Whether it is kept; where the disk is full or cannot be written, a warning is logged.
        """
        if self._model.kv_store.has(self._kv_key):
            return True
        state = self._do(self._save())
        return self._model.kv_store.put(self._kv_key, state, self._sequences.n_positions(self._image), pinned=True)

    def unpin(self) -> bool:
        """Remove it from the disk again; return whether it was there."""
        self._image.restore = None
        return self._model.kv_store.delete(self._kv_key)

    def _save(self) -> Job[npt.NDArray[np.uint8]]:
        yield from bring_in(self._sequences, self._image, self._recorder)
        return self._sequences.context.save(self._image.seq_id or 0)

    def _restore(self, seq_id: int) -> bool:
        return self._model.kv_store.restore(self._kv_key, seq_id, self._sequences.n_positions(self._image))

    def rate(self, questions: Iterable[str]) -> list[Rating]:
        """Rate questions whose answers are the bundle's labels, by their probabilities; no text is generated.

        All questions are prefilled together after the one image, as many at a time as there is room for.

        Raises:
            UsageError: a question is empty.
            ContextFullError: a question does not fit.
        """
        tokens = [self._tokens(question) for question in check_questions(questions)]
        return self._do(rate_all(self._sequences, self._image, self._model.labels, tokens, self._recorder))

    def _do(self, job: Job[T]) -> T:
        return self._model.scheduler.submit(job, priority=self._priority).wait()

    def score(self) -> Rating:
        """Return the overall rating, from the bundle's score question."""
        return self.rate([self._model.manifest.rating.question])[0]

    def attributes(self) -> dict[str, Rating]:
        """Return the rating of every attribute that the bundle names."""
        questions = self._model.manifest.rating.attributes
        return dict(zip(questions, self.rate(list(questions.values())), strict=True))

    def score_and_attributes(self) -> tuple[Rating, dict[str, Rating]]:
        """Return both, computed in one batch."""
        r = self._model.manifest.rating
        first, *others = self.rate([r.question, *r.attributes.values()])
        return first, dict(zip(r.attributes, others, strict=True))

    def ask(
        self, question: str, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]
    ) -> Answer:
        """Ask a question and wait for the answer.

        Args:
            question: any text.
            options: how the answer is generated.
            keywords: fields of :class:`GenerationOptions`, which go before those of ``options``.

        Raises:
            UsageError: the question is empty, or an option is wrong.
            ContextFullError: the question does not fit.
        """
        return self.stream(question, options, **keywords).read()

    def stream(
        self, question: str, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]
    ) -> AnswerStream:
        """Ask a question and iterate over the answer while it is generated; see :meth:`ask`."""
        return self._stream_all([question], with_keywords(options, keywords))[0]

    def ask_many(
        self,
        questions: Iterable[str],
        options: GenerationOptions | None = None,
        **keywords: Unpack[GenerationKeywords],
    ) -> list[Answer]:
        """Ask several questions; the answers are generated together, in the same batches. See :meth:`ask`."""
        return read_all(self._stream_all(check_questions(questions), with_keywords(options, keywords)))

    def critique(self, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]) -> Answer:
        """Ask the bundle's critique question; see :meth:`ask`."""
        return self.stream_critique(options, **keywords).read()

    def stream_critique(
        self, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]
    ) -> AnswerStream:
        """Ask the bundle's critique question and iterate over the answer; see :meth:`stream`."""
        return self.stream(self._model.manifest.prompt.critique, options, **keywords)

    def report(self, options: GenerationOptions | None = None, **keywords: Unpack[GenerationKeywords]) -> Report:
        """Write a structured critique; its fields are generated together, in the same batches.

        Args:
            options: how each field is generated; a field has three sentences at most, and no grammar.
            keywords: see :meth:`ask`.
        """
        attributes = list(self._model.manifest.rating.attributes)
        return write_report(self._stream_all, attributes, with_keywords(options, keywords))

    def conversation(self) -> Conversation:
        """Begin a conversation of several turns."""
        return Conversation(self._model, self._image)

    def _stream_all(self, questions: Sequence[str], options: GenerationOptions) -> list[AnswerStream]:
        tokens = [self._tokens(question) for question in questions]
        started = time.perf_counter()
        outs = [Completion(options, TimingsRecorder(started, self._recorder), self._started) for _ in questions]
        jobs = [self._answer(question, out) for question, out in zip(tokens, outs, strict=True)]
        futures = self._model.scheduler.submit_all(jobs, priority=self._priority, preemptible=True)
        return [AnswerStream(out, future) for out, future in zip(outs, futures, strict=True)]

    def _answer(self, question: Sequence[int], out: Completion) -> Job[None]:
        sequences, image = self._sequences, self._image
        out.begin()
        with sampler_of(self._model.llm, out.options) as sampler:
            started = sampler, sampler.begin()
            n_cells = n_cells_to_start(question, started[1], out.options)
            seq_ids = yield from acquire(sequences, image, out.recorder, n_forks=1, n_cells=n_cells)
            try:
                n_image = sequences.n_positions(image)
                out.prompt(n_image + len(question), n_image)
                with sequences.pinned(image):
                    yield from write(sequences, seq_ids[0], question, started, out)
            finally:
                sequences.release(seq_ids)
                out.account()

    def result(
        self,
        score: Rating,
        attributes: Mapping[str, Rating],
        *,
        critique: Answer | None = None,
        report: Report | None = None,
        answers: Sequence[tuple[str, Answer]] = (),
    ) -> PhotoResult:
        """Collect everything about the photo in one object, which :meth:`PhotoResult.to_json` prints."""
        model = self._model
        last = answers[-1][1] if answers else critique
        return PhotoResult(
            photo=self.name,
            bundle=model.bundle.name,
            gguf=model.plan.gguf.lower(),
            vision=model.plan.vision.lower(),
            image_tokens=self._image.n_rows,
            seen=self._encoded.seen,
            cache=self.cache_state,
            remarks=self.remarks,
            score=score.score,
            probabilities=score.probabilities,
            entropy=score.entropy,
            off_label=score.off_label,
            attributes=dict(attributes),
            critique=critique.text.strip() if critique else None,
            report=report,
            answers=tuple(AskedAnswer(question, answer.text.strip()) for question, answer in answers),
            finish_reason=last.finish_reason if last else None,
            timings=dataclasses.replace(self.timings, total_s=time.perf_counter() - self._started),
        )

    def _tokens(self, question: str) -> list[int]:
        check_question(question)
        return self._model.question_tokens(question)

    def close(self) -> None:
        """Leave the KV cache. Closing twice does nothing; a photo that is asked again comes back."""
        with suppress(UsageError):  # the model was closed, and the KV cache with it
            self._model.scheduler.call(self._leave).wait()

    def _leave(self) -> None:
        if not self._image.n_users:
            self._sequences.evict(self._image)

    def __repr__(self) -> str:
        return f"<Photo {self.name!r}, {self._image.n_rows} image tokens, {self.cache_state}>"
