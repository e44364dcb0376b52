"""One way of running the tower, or the language model, opened and timed step by step; knows no other way."""

from __future__ import annotations

import time
from itertools import cycle, islice
from typing import TYPE_CHECKING

from aesedge.llm import binding
from aesedge.llm.context import Aborted
from aesedge.rating import rate
from aesedge.tuning.duel import NoTimeError
from aesedge.tuning.steps import Done, Step
from aesedge.work import even

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.llm import Context
    from aesedge.rating import LabelTokens, Rating
    from aesedge.tuning.steps import Phase
    from aesedge.vision import VisionTower

_PREFIX, _PHOTO, _ANSWER = range(3)
"""Sequences: the text before the image, the photo that is worked on, and where an answer of several tokens goes on."""
N_SEQUENCES = 3
_N_WARM = 2
_WORTH_ASKING_S = 5.0
"""A machine that takes longer for a question is told by its first text how fast it is."""


class TowerTrial:
    """A tower, and the pixels that it looks at.

    Args:
        tower: whoever made it closes it, by :meth:`close`.
        pixels: what it sees, float32 [1, 3, size, size] each.
        keep: is given a photo's number and its rows, float32 [n_image_tokens, n_embd].
    """

    def __init__(
        self,
        tower: VisionTower,
        pixels: Sequence[npt.NDArray[np.float32]],
        keep: Callable[[int, npt.NDArray[np.float32]], None],
    ) -> None:
        self._tower = tower
        self._pixels = pixels
        self._keep = keep

    def run(self, step: Step) -> Done:
        """Look at a photo."""
        started = time.perf_counter()
        rows = self._tower.encode(self._pixels[step.photo])
        seconds = time.perf_counter() - started
        self._keep(step.photo, rows)
        return Done(seconds)

    def abort(self) -> None:
        """Let it end; a tower does not take long."""

    def warm(self) -> dict[Phase, float]:
        """Look at a photo, which wakes everything, and again; return the seconds that it takes."""
        return {"vision": min(self.run(Step("see")).seconds for _ in range(_N_WARM))}

    def close(self) -> None:
        """Free the tower."""
        self._tower.close()


class Prompts:
    """The tokens around an image.

    Args:
        prefix: the text before it, with BOS.
        question: the rating question.
        labels: the answers to it that are looked for.
        text: any tokens, to decode; nobody reads what comes of it.
    """

    def __init__(
        self, prefix: Sequence[int], question: Sequence[int], labels: LabelTokens, text: Sequence[int]
    ) -> None:
        self.prefix, self.question, self.labels, self.text = prefix, question, labels, text


class LanguageTrial:
    """A KV cache, and the photos whose rows go through it.

    Args:
        context: empty, with ``N_SEQUENCES`` sequences; whoever made it closes it, by :meth:`close`.
        prompts: what stands around an image.
        rows: returns a photo's rows, float32 [n_image_tokens, n_embd].
        chunk: rows in a batch.
    """

    def __init__(
        self, context: Context, prompts: Prompts, rows: Callable[[int], npt.NDArray[np.float32]], *, chunk: int
    ) -> None:
        self._context = context
        self._prompts = prompts
        self._rows = rows
        self._chunk = chunk
        self._next = cycle(prompts.text)
        self._synchronize = binding.load().llama_synchronize  # a GPU works on after llama_decode has returned

    def run(self, step: Step) -> Done:
        """Do a step; a photo begins with the step ``begin``."""
        if step.kind == "begin":
            self._context.fork(_PREFIX, _PHOTO)
            return Done(0.0)
        rows = self._rows(step.photo)[step.start : step.start + step.n] if step.kind == "rows" else None
        started = time.perf_counter()
        score = None
        try:
            if rows is not None:
                n = even(len(rows), self._chunk)
                for start in range(0, len(rows), n):
                    self._context.prefill_embeddings(_PHOTO, rows[start : start + n])
            elif step.kind == "question":
                score = self._ask().score
            else:
                for token in islice(self._next, step.n):
                    self._context.append([(_PHOTO, [token])], [True])
        except Aborted:
            raise NoTimeError("no time left") from None
        self._synchronize(self._context.handle)
        return Done(time.perf_counter() - started, score)

    def abort(self) -> None:
        """Have what runs stopped; it raises NoTimeError."""
        self._context.abort.set()

    def _ask(self) -> Rating:
        first = self._context.prefill_tokens(_PHOTO, self._prompts.question)
        after = {}
        for prefix in self._prompts.labels.prefixes:
            self._context.fork(_PHOTO, _ANSWER)
            after[prefix] = self._context.prefill_tokens(_ANSWER, prefix)
        self._context.truncate(_ANSWER, 0)
        return rate(self._prompts.labels, first, after)

    def warm(self) -> dict[Phase, float]:
        """Have the weights read once, and put the text before the image in; return the seconds for a row and a token.

        Raises:
            NoTimeError: time was over before it was done.
        """
        try:
            self._context.prefill_tokens(_PHOTO, self._prompts.text[:1])  # one token: from the disk, if need be
            row_s = self._timed(lambda: self._context.prefill_tokens(_PREFIX, self._prompts.prefix))
            row_s /= len(self._prompts.prefix)
            self._context.fork(_PREFIX, _PHOTO)
            if row_s * len(self._prompts.question) < _WORTH_ASKING_S:
                row_s = self._timed(self._ask) / len(self._prompts.question)
            token_s = min(
                self._timed(lambda: self._context.append([(_PHOTO, [token])], [True]))  # noqa: B023 (called at once)
                for token in islice(self._next, _N_WARM)
            )
        except Aborted:
            raise NoTimeError("no time left") from None
        return {"prefill": row_s, "decode": token_s}

    def _timed(self, do: Callable[[], object]) -> float:
        started = time.perf_counter()
        do()
        self._synchronize(self._context.handle)
        return time.perf_counter() - started

    def close(self) -> None:
        """Free the cache."""
        self._context.close()
