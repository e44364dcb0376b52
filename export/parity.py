"""Parity: a fresh bundle against PyTorch, stage by stage, each with its tolerance and the reason for it.

Every stage compares the parts that users run (:mod:`aesedge.image`, :mod:`aesedge.vision`, :mod:`aesedge.llm`) with
:mod:`.reference`. The language-model stages run end to end, from the photo, on the F16 file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aesedge.errors import ParityError
from aesedge.image import preprocess
from aesedge.llm import Context, LanguageModel
from aesedge.prompt import prompt_template

from .stages import (
    EMBEDDINGS_MAX_RELATIVE,
    EMBEDDINGS_MIN_COSINE,
    LOGITS_MAX_KL,
    LOGITS_MAX_RELATIVE,
    N_GREEDY,
    PIXELS_MAX_ABS,
    Stage,
    compare_greedy,
    compare_logits,
    compare_rows,
    max_abs_diff,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL import Image

    from aesedge.manifest import ImageSpec, PromptSpec
    from aesedge.vision import VisionTower

    from .reference import Reference
    from .stages import Answer, FloatArray


@dataclass(frozen=True)
class Inputs:
    """What parity is measured on."""

    photos: Sequence[Image.Image]
    """RGB images."""
    image: ImageSpec
    prompt: PromptSpec
    question: str


class Runtime:
    """The bundle's side: a vision graph and one GGUF file, run as users run them."""

    def __init__(self, tower: VisionTower, llm: Path, n_threads: int) -> None:
        self._tower = tower
        self._n_threads = n_threads
        self.model = LanguageModel(llm)

    def image_embeddings(self, pixels: FloatArray) -> FloatArray:
        """Return the vision graph's rows, float32 [n_image_tokens, n_embd]."""
        return self._tower.encode(pixels)

    def tokens(self, text: str) -> list[int]:
        """Return llama.cpp's ids of one piece of text."""
        return self.model.tokenize(text)

    def greedy(self, before: list[int], rows: FloatArray, after: list[int], n_tokens: int) -> Answer:
        """Do what :meth:`.reference.Reference.greedy` does."""
        n_ctx = len(before) + len(rows) + len(after) + n_tokens
        with Context(self.model, n_ctx=n_ctx, n_seq_max=1, n_threads=self._n_threads) as context:
            context.prefill_tokens(0, before)
            context.prefill_embeddings(0, rows)
            logits = [context.prefill_tokens(0, after)]
            tokens = [int(logits[0].argmax())]
            while len(tokens) < n_tokens:
                logits.append(context.prefill_tokens(0, tokens[-1:]))
                tokens.append(int(logits[-1].argmax()))
        return tokens, logits

    def close(self) -> None:
        """Free the language model; the tower may serve another one."""
        self.model.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def measure_parity(
    reference: Reference, runtime: Runtime, inputs: Inputs, progress: Callable[[float], None]
) -> list[Stage]:
    """Compare a bundle's fp32 vision graph and F16 language model with PyTorch.

    Returns:
        The stages, all within their limits.

    Raises:
        ParityError: a stage is beyond its limit.
    """
    prompts = _prompts(reference, runtime, inputs)
    pixels, embeddings, tokens, logits, greedy = stages = _empty_stages()
    tokens.add(n_tokens=sum(len(before) + len(after) for before, after in prompts))
    for i, photo in enumerate(inputs.photos):
        ours, theirs = preprocess(photo, inputs.image), reference.pixels(photo)
        pixels.add(max_abs_diff=max_abs_diff(ours, theirs))
        pixels.check()
        our_rows, their_rows = runtime.image_embeddings(ours), reference.image_embeddings(theirs)
        embeddings.add(**compare_rows(our_rows, their_rows))
        embeddings.check()
        for before, after in prompts:
            expected = reference.greedy(before, their_rows, after, N_GREEDY)
            answer = runtime.greedy(before, our_rows, after, N_GREEDY)
            logits.add(**compare_logits(answer[1][0], expected[1][0]))
            logits.check()
            greedy.add(**compare_greedy(answer, expected))
            greedy.check()
        progress((i + 1) / len(inputs.photos))
    return stages


def _empty_stages() -> list[Stage]:
    return [
        Stage("pixels", {"max_abs_diff": PIXELS_MAX_ABS}),
        Stage("image embeddings", {"max_relative_diff": EMBEDDINGS_MAX_RELATIVE, "min_cosine": EMBEDDINGS_MIN_COSINE}),
        Stage("prompt tokens", {}),
        Stage("first-token logits", {"kl": LOGITS_MAX_KL, "max_relative_diff": LOGITS_MAX_RELATIVE}),
        Stage("greedy tokens", {"n_equal_or_tied": N_GREEDY, "max_kl": LOGITS_MAX_KL}),
    ]


def measure_type(f16: Runtime, other: Runtime, inputs: Inputs) -> dict[str, float]:
    """Compare the first-token logits of a quantized language model with those of F16, on every photo and prompt.

    Returns:
        The figures of :func:`compare_logits`, the mean of ``kl`` and the worst of the others, and ``n_prompts``.

    Raises:
        ParityError: a logit is not finite.
    """
    template = prompt_template(inputs.prompt.template)
    before = [f16.model.bos, *f16.tokens(template.before_image)]
    found = []
    for photo in inputs.photos:
        rows = f16.image_embeddings(preprocess(photo, inputs.image))
        for question in (inputs.question, inputs.prompt.critique):
            after = f16.tokens(template.after_image(question))
            logits = [runtime.greedy(before, rows, after, 1)[1][0] for runtime in (other, f16)]
            if not np.isfinite(logits[0]).all():
                raise ParityError(f"{other.model.path.name}: logits are not finite; leave this type out of the export")
            found.append(compare_logits(logits[0], logits[1]))
    return {
        "mean_kl": float(np.mean([f["kl"] for f in found])),
        "max_relative_diff": max(f["max_relative_diff"] for f in found),
        "n_argmax_equal": sum(f["n_argmax_equal"] for f in found),
        "n_prompts": len(found),
    }


def _prompts(reference: Reference, runtime: Runtime, inputs: Inputs) -> list[tuple[list[int], list[int]]]:
    """Return token ids before and after the image, for the rating and the critique, equal on both sides.

    Raises:
        ParityError: llama.cpp and sentencepiece split a text differently.
    """
    template = prompt_template(inputs.prompt.template)
    texts = [template.before_image, *(template.after_image(q) for q in (inputs.question, inputs.prompt.critique))]
    for text in texts:
        ours, theirs = runtime.tokens(text), reference.tokens(text)
        if ours != theirs:
            raise ParityError(
                f"parity stage 'prompt tokens': llama.cpp reads {text[:40]!r} as {ours[:8]}..., sentencepiece as "
                f"{theirs[:8]}...; nothing was written, please report this with the checkpoint's name"
            )
    before, *after = (reference.tokens(text) for text in texts)
    return [([runtime.model.bos, *before], ids) for ids in after]
