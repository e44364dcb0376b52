"""One photo that was looked at: its ratings, answers and conversations, all over one image in the KV cache.

Knows questions; how the image gets into the cache is ``residents``' business, how it was read is ``engine``'s.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.conversation import Conversation
from aesedge.errors import UsageError
from aesedge.rating import Rating, rate
from aesedge.reply import Opening, Reply, Writing
from aesedge.residents import ResidentImage
from aesedge.result import Answer, PhotoResult, Timings, rating_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aesedge.engine import Model

Logits = npt.NDArray[np.float32]


class Photo:
    """A photo in a model's eye. Made by :meth:`aesedge.engine.Model.look`; close it, or use ``with``."""

    def __init__(self, model: Model, name: str, image_embeddings: Logits, *, started: float) -> None:
        self._model = model
        self._residents = model.residents
        self._image = ResidentImage(image_embeddings)
        self._started = started
        self.name = name
        self.timings = Timings()

    @property
    def image_embeddings(self) -> npt.NDArray[np.float32]:
        """What the tower saw, float32 [n_image_tokens, n_embd]."""
        return self._image.rows

    def prefill(self) -> None:
        """See that the image is in the KV cache; asking does it by itself."""
        before = time.perf_counter()
        was_there = self._image.seq_id is not None
        seq_id = self._residents.sequence_of(self._image)
        if not was_there:
            self.timings.prefill_s += time.perf_counter() - before
            self._count(self._residents.context.n_past(seq_id), self._residents.n_prefix)

    def rate(self, questions: Sequence[str]) -> list[Rating]:
        """Return how the model answers questions whose answers are the bundle's labels, without generating text.

        All questions are prefilled together after the one image, as many at a time as there is room for.
        """
        texts = [self._tokens(q) for q in questions]
        self.prefill()
        ratings: list[Rating] = []
        while len(ratings) < len(texts):
            rest = texts[len(ratings) :]
            ratings += self._rate_together(rest[: self._how_many_fit(rest)])
        return ratings

    def _how_many_fit(self, texts: Sequence[Sequence[int]]) -> int:
        """Return how many questions can be asked at once, one at least: llama.cpp's own limits are checked later."""
        prefixes = self._model.labels.prefixes
        n_cells = np.cumsum([len(text) + sum(map(len, prefixes)) for text in texts])
        by_cells = int(np.count_nonzero(n_cells <= self._residents.context.n_free))
        by_sequences = self._residents.n_sequences_free // (1 + len(prefixes))
        return max(1, min(by_cells, by_sequences))

    def _rate_together(self, texts: Sequence[Sequence[int]]) -> list[Rating]:
        before = time.perf_counter()
        with self._residents.forks(self._image, len(texts)) as seq_ids:
            n_past = self._residents.context.n_past(seq_ids[0])
            first = self._residents.context.prefill_many(list(zip(seq_ids, texts, strict=True)))
            after = self._after_prefixes(seq_ids)
        self.timings.prefill_s += time.perf_counter() - before
        self._count(sum(map(len, texts)) + n_past * len(texts), n_past * len(texts))
        return [rate(self._model.labels, logits, rest) for logits, rest in zip(first, after, strict=True)]

    def _after_prefixes(self, asked: Sequence[int]) -> list[Mapping[tuple[int, ...], Logits]]:
        """Return, for each question, the logits after the beginning of every answer of several tokens."""
        prefixes, context = self._model.labels.prefixes, self._residents.context
        if not prefixes:
            return [{} for _ in asked]
        seq_ids = self._residents.take(len(asked) * len(prefixes))
        try:
            for i, seq_id in enumerate(seq_ids):
                context.fork(asked[i // len(prefixes)], seq_id)
            logits = context.prefill_many([(s, prefixes[i % len(prefixes)]) for i, s in enumerate(seq_ids)])
        finally:
            self._residents.give_back(seq_ids)
        by_question = logits.reshape(len(asked), len(prefixes), -1)
        return [dict(zip(prefixes, rows, strict=True)) for rows in by_question]

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
        """Ask anything; iterate over the reply for its text, piece by piece.

        Raises:
            UsageError: the question is empty.
            ContextFullError: while iterating, when the question does not fit.
        """
        prompt = self._tokens(question)

        @contextmanager
        def opening() -> Iterator[Opening]:
            self.prefill()
            with self._residents.forks(self._image, 1) as (seq_id,):
                yield Opening(seq_id, prompt)

        return Reply(self._residents.context, opening, writing or Writing(), self.timings, self._started)

    def critique(self, writing: Writing | None = None) -> Reply:
        """Ask the bundle's critique question."""
        return self.ask(self._model.manifest.prompt.critique, writing)

    def conversation(self) -> Conversation:
        """Begin a conversation of several turns."""
        return Conversation(self._residents, self._image, self._model.llm, self._model.template)

    def result(
        self,
        score: Rating,
        attributes: Mapping[str, Rating],
        *,
        critique: Reply | None = None,
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
            image_tokens=len(self._image.rows),
            score=score.score,
            rating=score.rating,
            entropy=score.entropy,
            off_label=score.off_label,
            attributes={name: rating_json(r) for name, r in attributes.items()},
            critique=critique.text.strip() if critique else None,
            answers=[Answer(question, reply.text.strip()) for question, reply in answers],
            finish_reason=last.finish_reason if last else None,
            timings=self.timings,
        )

    def _tokens(self, question: str) -> list[int]:
        if not question.strip():
            raise UsageError("the question is empty")
        return self._model.llm.tokenize(self._model.template.after_image(question))

    def _count(self, n_prompt: int, n_reused: int) -> None:
        self.timings.n_prompt += n_prompt
        self.timings.n_reused += n_reused

    def close(self) -> None:
        """Leave the KV cache. Closing twice does nothing; a photo that is asked again comes back."""
        self._residents.evict(self._image)

    def __enter__(self) -> Photo:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
