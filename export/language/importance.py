"""Measure on photos how important each input of a language model's matrices is.

A quantizer that knows how large a column's inputs are rounds the weights of the large ones with more care. llama.cpp's
own tool measures that on text. Here the model sees what it will see: photos through the vision tower, its own
questions about them, and its own answer. Text and image rows count alike, as every row does in llama.cpp's tool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aesedge.errors import InferenceError, UsageError
from aesedge.image import preprocess
from aesedge.llm import Context, LanguageModel
from aesedge.llm.prompt import prompt_template

from .activations import ColumnSums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from PIL import Image

    from aesedge.bundle.manifest import PromptSpec, RatingSpec
    from aesedge.image.image_spec import ImageSpec
    from aesedge.vision.tower import VisionTower

Progress = Callable[[float], None]
"""Called with the share that is done, 0..1."""

_IMAGE, _QUESTION = 0, 1  # sequences of the KV cache
_PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class Calibration:
    """Photos and questions that importance is measured on."""

    photos: Sequence[tuple[str, Image.Image]]
    """Names and RGB images."""
    image: ImageSpec
    prompt: PromptSpec
    rating: RatingSpec
    n_answer_tokens: int = 128
    """How much of its own critique the model reads, at most."""


@dataclass(frozen=True)
class Importance:
    """Mean squares of what each weight is multiplied with."""

    values: Mapping[str, npt.NDArray[np.float32]]
    """Name of a tensor in the GGUF file, ``blk.0.attn_q.weight``, to float32 [n_in], finite and not negative."""
    n_rows: Mapping[str, int]
    """Name of a tensor to the number of rows that the mean is over."""
    photos: tuple[str, ...]
    """Names of the photos, or of other data that it was measured on."""

    @property
    def n_positions(self) -> int:
        """Positions of prompts and answers that the model was watched at."""
        return max(self.n_rows.values())

    def check_fits(self, n_in: Mapping[str, int], where: Path | str) -> None:
        """Check that this was measured on a model of the same shape.

        Args:
            n_in: length of a row, for every matrix of the model.
            where: the model, for the message.

        Raises:
            UsageError: a tensor is missing there or has rows of another length.
        """
        for name, values in self.values.items():
            if n_in.get(name) != len(values):
                raise UsageError(
                    f"{where}: the importance matrix has {len(values)} values for '{name}', the model "
                    f"{n_in.get(name, 'no such tensor')}; use one that was made for this model"
                )


def gather(
    llm: Path,
    tower: VisionTower,
    calibration: Calibration,
    *,
    n_threads: int,
    with_output: bool = False,
    progress: Progress | None = None,
) -> Importance:
    """Run a language model on photos and sum the squared inputs of its matrices.

    Every photo is prefilled once, followed by the rating questions, the critique question and the model's own greedy
    critique; the questions share the image's rows, which count once. Runs on the CPU; Ctrl-C stops it.

    Args:
        llm: GGUF file, best in F16 or Q8_0. It is mapped into memory, not copied.
        tower: the vision graph of the same bundle.
        calibration: photos, preprocessing and questions.
        n_threads: CPU threads.
        with_output: whether to measure ``output.weight`` too, as llama.cpp's tool does only if asked.
        progress: called with the share that is done.

    Raises:
        UsageError: there are no photos.
        ModelLoadError: llama.cpp refuses the file, or there is not enough memory.
        ContextFullError: a question does not fit behind an image.
        InferenceError: tower and file are not of one bundle, or llama.cpp computes in a way that is not understood.
    """
    if not calibration.photos:
        raise UsageError("no photos to calibrate with; give one or more")
    report = progress or (lambda _share: None)
    sums = ColumnSums(with_output=with_output)
    report(0.0)
    with LanguageModel(llm, gpu_layers=0, repack=False) as model:
        prompts = _Prompts(model, calibration, tower.n_image_tokens)
        with Context(model, n_ctx=prompts.n_longest, n_seq_max=2, n_threads=n_threads, on_node=sums) as context:
            for i, (_, photo) in enumerate(calibration.photos):
                _look(context, sums, tower.encode(preprocess(photo, calibration.image)), prompts)
                report((i + 1) / len(calibration.photos))
        _check_complete(model, sums)
    return Importance(
        values={name: (sums.sums[name] / n).astype(np.float32) for name, n in sums.n_rows.items()},
        n_rows=dict(sums.n_rows),
        photos=tuple(name for name, _ in calibration.photos),
    )


class _Prompts:
    """The questions in tokens, and how long the longest way through them is."""

    def __init__(self, model: LanguageModel, calibration: Calibration, n_image_tokens: int) -> None:
        template = prompt_template(calibration.prompt.template)
        rating = calibration.rating
        self.before = [model.bos, *model.tokenize(template.before_image)]
        asked = [rating.question, *rating.attributes.values()]
        self.ratings = [model.tokenize(template.after_image(question)) for question in asked]
        self.critique = model.tokenize(template.after_image(calibration.prompt.critique))
        n_image = len(self.before) + n_image_tokens
        room = model.n_ctx_train - n_image - len(self.critique)
        self.n_answer = max(0, min(calibration.n_answer_tokens, room))
        n_question = max(len(self.critique) + self.n_answer, *(len(tokens) for tokens in self.ratings))
        self.n_longest = n_image + n_question


def _look(context: Context, sums: ColumnSums, rows: npt.NDArray[np.float32], prompts: _Prompts) -> None:
    """Show the model one photo and all questions about it."""
    context.truncate(_IMAGE, 0)
    context.prefill_tokens(_IMAGE, prompts.before)
    sums.check()
    context.prefill_embeddings(_IMAGE, rows)
    sums.check()
    for question in prompts.ratings:
        context.fork(_IMAGE, _QUESTION)
        context.prefill_tokens(_QUESTION, question)
        sums.check()
    answer = _answer(context, sums, prompts)
    context.fork(_IMAGE, _QUESTION)
    context.prefill_tokens(_QUESTION, [*prompts.critique, *answer])
    sums.check()
    context.truncate(_QUESTION, 0)


def _answer(context: Context, sums: ColumnSums, prompts: _Prompts) -> list[int]:
    """Return the model's own critique, without counting its rows: they are counted when it is read again in one."""
    if not prompts.n_answer:
        return []
    context.fork(_IMAGE, _QUESTION)
    sums.enabled = False
    try:
        answer: list[int] = []
        token = int(context.prefill_tokens(_QUESTION, prompts.critique).argmax())
        while len(answer) < prompts.n_answer and not context.model.is_end(token):
            answer.append(token)
            token = int(context.prefill_tokens(_QUESTION, [token]).argmax())
        return answer
    finally:
        sums.enabled = True


def _check_complete(model: LanguageModel, sums: ColumnSums) -> None:
    n_layers = int(model.metadata("llama.block_count") or 0)
    wanted = [f"blk.{i}.{part}.weight" for i in range(n_layers) for part in _PARTS]
    missing = next((name for name in wanted if name not in sums.n_rows), None)
    if missing is not None or not wanted:
        raise InferenceError(
            f"{model.path}: llama.cpp did not show the product with '{missing}', so its importance is unknown; "
            "please report this with the version of llama-cpp-python"
        )
