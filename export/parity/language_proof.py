"""Compare language model files with a reference on photos: distributions, top-1 tokens, scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.bundle.gguf_types import FLOAT_TYPES
from aesedge.errors import ParityError

from .gguf_runtime import GgufRuntime
from .stages import N_GREEDY, Positions, compare_positions
from .verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .forced import ForcedSequence, Prompts
    from .stages import FloatArray


N_ANSWERS = 2  # the rating and the critique


@dataclass(frozen=True, eq=False)
class Expected:
    """What language files are compared with."""

    against: str
    """The reference in a word or two, e.g. ``PyTorch`` or ``F16``."""
    prompts: Prompts
    asked: list[list[ForcedSequence]]
    """For each photo: both questions with their continuations, then the beginnings of labels."""
    logits: list[list[FloatArray]]
    """What the reference says to them, float32 [n, n_vocab] each."""

    @property
    def n_positions(self) -> int:
        """How many next-token distributions are compared."""
        return sum(len(logits) for of_photo in self.logits for logits in of_photo[:N_ANSWERS])

    def scores(self, logits: Sequence[Sequence[FloatArray]]) -> list[float]:
        """Return the score of each photo, 0..10, from answers to ``asked``."""
        return [self.prompts.score(of_photo[0][0], of_photo[N_ANSWERS:]) for of_photo in logits]


@dataclass(frozen=True)
class FileComparison:
    """How one language file differs from the reference."""

    answers: list[Positions]
    """One for each photo and question."""
    score_drifts: list[float]
    """Absolute differences of the score, in points of 0..10, one for each photo."""

    def figures(self) -> dict[str, Any]:
        """Return the figures of the manifest, and the verdict."""
        kl = np.concatenate([p.kl for p in self.answers])
        equal = np.concatenate([p.equal for p in self.answers])
        figures = {
            "mean_kl": float(kl.mean()),
            "max_kl": float(kl.max()),
            "n_top1_equal": int(equal.sum()),
            "n_positions": len(kl),
            "mean_score_drift": float(np.mean(self.score_drifts)),
            "max_score_drift": max(self.score_drifts),
        }
        return {**figures, "verdict": verdict(figures["mean_kl"], figures["max_score_drift"])}


def most_precise(files: Mapping[str, Path]) -> str:
    """Return the type of the most precise of some language files: by kind, and below half precision by size."""

    def rank(gguf_type: str) -> tuple[int, int]:
        kind = len(FLOAT_TYPES) - FLOAT_TYPES.index(gguf_type) if gguf_type in FLOAT_TYPES else 0
        return kind, files[gguf_type].stat().st_size

    return max(files, key=rank)


def write_continuations(
    runtime: GgufRuntime, prompts: Prompts, images: Sequence[FloatArray], progress: Callable[[float], None]
) -> tuple[list[list[ForcedSequence]], list[list[FloatArray]]]:
    """Generate the most precise file's answers to both questions on every photo.

    Args:
        runtime: that file.
        prompts: the questions.
        images: image embeddings, float32 [n_image_tokens, n_embd] each.
        progress: called with the share done, 0..1.

    Returns:
        ``asked`` of :class:`Expected`, and what the file itself says to it.
    """
    asked, logits = [], []
    for i, rows in enumerate(images):
        answers = runtime.greedy(prompts.before, rows, prompts.questions, N_GREEDY)
        beginnings = prompts.beginnings(rows)
        # Behind the last token nothing more is asked.
        asked.append([*prompts.answers(rows, [tokens[:-1] for tokens, _ in answers]), *beginnings])
        logits.append([*(of_one for _, of_one in answers), *runtime.logits(beginnings)])
        progress((i + 1) / len(images))
    return asked, logits


def measure_file(
    path: Path, expected: Expected, *, n_threads: int, progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Ask a GGUF file what the reference was asked.

    Args:
        path: any GGUF file of the same model.
        expected: the questions and the reference's answers.
        n_threads: CPU threads.
        progress: called with the share done, 0..1.

    Returns:
        ``n_bytes``, ``against``, and the figures of :meth:`FileComparison.figures`.

    Raises:
        ParityError: the file has another vocabulary, or its logits are not finite.
    """
    with GgufRuntime(path, n_threads=n_threads) as runtime:
        check_vocabulary(runtime, expected.prompts, expected.against)
        flat = [sequence for of_photo in expected.asked for sequence in of_photo]
        answers = iter(runtime.logits(flat, progress))
        ours = [[next(answers) for _ in of_photo] for of_photo in expected.asked]
    return describe(path, expected, compare(path.name, expected, ours))


def describe(path: Path, expected: Expected, comparison: FileComparison) -> dict[str, Any]:
    """Return what the manifest says of one file."""
    return {"n_bytes": path.stat().st_size, "against": expected.against, **comparison.figures()}


def check_vocabulary(runtime: GgufRuntime, prompts: Prompts, against: str) -> None:
    """Compare how a file reads the questions and the labels.

    Raises:
        ParityError: it reads one of them as other tokens.
    """
    for text, ids in prompts.texts.items():
        found = runtime.model.tokenize(text)
        if found != ids:
            raise ParityError(
                f"parity stage 'prompt tokens': {runtime.model.path.name} reads {text[:40]!r} as {found[:8]}..., "
                f"{against} as {ids[:8]}...; the two do not have one vocabulary"
            )


def compare(name: str, expected: Expected, ours: Sequence[Sequence[FloatArray]]) -> FileComparison:
    """Compare answers to ``expected.asked`` with the reference's.

    Raises:
        ParityError: logits of ours are not finite, or of another vocabulary.
    """
    if not all(np.isfinite(logits).all() for of_photo in ours for logits in of_photo):
        raise ParityError(f"{name}: its logits are not finite numbers; leave this type out of the export")
    return FileComparison(
        answers=[
            compare_positions(our, their)
            for of_photo, of_reference in zip(ours, expected.logits, strict=True)
            for our, their in zip(of_photo[:N_ANSWERS], of_reference[:N_ANSWERS], strict=True)
        ],
        score_drifts=[
            abs(our - their) for our, their in zip(expected.scores(ours), expected.scores(expected.logits), strict=True)
        ],
    )
