"""Run a GGUF file for the parity proof: greedily, and over given sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aesedge.llm import Context, LanguageModel
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .forced import ForcedSequence
    from .stages import FloatArray

_IMAGE = 0  # the sequence that holds the text before the image, and the image


class GgufRuntime(Closing):
    """One GGUF file on llama.cpp.

    The weights stay in the file's own pages (no repacking), so that a file larger than the free memory can be asked.

    Args:
        path: the GGUF file.
        n_threads: CPU threads.

    Raises:
        ModelLoadError: llama.cpp refuses the file.
    """

    def __init__(self, path: Path, *, n_threads: int) -> None:
        self.model = LanguageModel(path, repack=False)
        self.description = f"{path.name} on llama.cpp"
        self._n_threads = n_threads
        self._context: Context | None = None
        self._held: tuple[list[int], FloatArray] | None = None

    def greedy(
        self, before: list[int], rows: FloatArray, questions: Sequence[list[int]], n_tokens: int
    ) -> list[tuple[list[int], FloatArray]]:
        """Answer questions on one image by the likeliest token each time, all of them together.

        Args:
            before: token ids in front of the image, BOS among them.
            rows: image embeddings, float32 [n_image_tokens, n_embd].
            questions: token ids behind the image.
            n_tokens: how many tokens to choose; an end-of-sequence token does not stop.

        Returns:
            For each question the tokens, and the logits float32 [n_tokens, n_vocab] that they were chosen from.
        """
        n_more = sum(len(question) + n_tokens for question in questions)
        context = self._see(before, rows, n_more, len(questions))
        seq_ids = range(1, 1 + len(questions))
        for seq_id in seq_ids:
            context.fork(_IMAGE, seq_id)
        steps = [context.prefill_many(list(zip(seq_ids, questions, strict=True)))]
        while len(steps) < n_tokens:
            tokens = steps[-1].argmax(axis=1)
            steps.append(context.prefill_many([(s, [int(t)]) for s, t in zip(seq_ids, tokens, strict=True)]))
        for seq_id in seq_ids:
            context.truncate(seq_id, 0)
        logits = np.stack(steps, axis=1)
        return [([int(t) for t in of_one.argmax(axis=1)], of_one) for of_one in logits]

    def logits(
        self, sequences: Sequence[ForcedSequence], progress: Callable[[float], None] | None = None
    ) -> list[FloatArray]:
        """Implement :class:`.forced.LogitSource`; neighbours with one image share its prefill."""
        found = []
        for i, sequence in enumerate(sequences):
            text = sequence.after + sequence.continuation
            context = self._see(sequence.before, sequence.rows, len(text), 1)
            n_image = context.n_past(_IMAGE)
            found.append(context.prefill_forced(_IMAGE, text, n_last=1 + len(sequence.continuation)))
            context.truncate(_IMAGE, n_image)
            if progress is not None:
                progress((i + 1) / len(sequences))
        return found

    def _see(self, before: list[int], rows: FloatArray, n_more: int, n_questions: int) -> Context:
        """Return a context that holds the image, with room for ``n_more`` positions and ``n_questions`` sequences."""
        n_ctx = len(before) + len(rows) + n_more
        context = self._context
        if context is None or context.n_ctx < n_ctx or context.n_seq_max < 1 + n_questions:
            self._close_context()
            context = self._context = Context(
                self.model, n_ctx=n_ctx, n_seq_max=1 + n_questions, n_threads=self._n_threads
            )
        # The same array object, not an equal one: comparing identities costs nothing and errs on the safe side.
        if self._held is None or self._held[0] != before or self._held[1] is not rows:
            self._held = None
            context.truncate(_IMAGE, 0)
            context.prefill_tokens(_IMAGE, before)
            context.prefill_embeddings(_IMAGE, rows)
            self._held = (before, rows)
        return context

    def _close_context(self) -> None:
        context, self._context, self._held = self._context, None, None
        if context is not None:
            context.close()

    def close(self) -> None:
        """Free the language model. Closing twice does nothing."""
        self._close_context()
        self.model.close()
