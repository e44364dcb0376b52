"""Prove a bundle stage by stage against PyTorch.

Every stage runs the parts that users run (:mod:`aesedge.image`, :mod:`aesedge.vision.tower`, :mod:`aesedge.llm`).
Language files are asked with the reference's own image embeddings, so that each stage shows one part's error; the
vision graphs have theirs beside it, and the stage ``score`` goes from the photo to the score through the whole bundle.
PyTorch is loaded by :func:`prove` alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.image import preprocess

from ..progress import silent
from . import language_proof, vision_proof
from .gguf_runtime import GgufRuntime
from .language_proof import Expected, most_precise, write_continuations
from .proof_inputs import part_of, prompts_of
from .self_proof import measure_types
from .stages import FIRST, GREEDY, LANGUAGE_LIMITS, PIXELS_MAX_ABS, SCORE, Stage, as_records, max_abs_diff
from .verdict import limits_of_verdicts
from .vision_proof import embeddings_stage, encode_files, scores_of_towers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from PIL import Image

    from ..checkpoint.checkpoint import Checkpoint
    from .forced import Prompts
    from .language_proof import FileComparison
    from .proof_inputs import BundleFiles, Inputs, OnProgress
    from .reference import Reference
    from .stages import FloatArray

PYTORCH = "PyTorch"
_NO_LIMITS = f"the language files have a verdict and no limits: none of them is {', '.join(LANGUAGE_LIMITS)}"


def prove(
    checkpoint: Checkpoint,
    files: BundleFiles,
    inputs: Inputs,
    *,
    open_reference: Callable[[], Reference] | None = None,
    vision_limits: Mapping[str, Mapping[str, float]] | None = None,
    n_threads: int,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Compare a fresh bundle with its checkpoint in PyTorch.

    Args:
        checkpoint: what was exported.
        files: what it became.
        inputs: photos, and the questions of the manifest.
        open_reference: opens another model than the checkpoint's in PyTorch.
        vision_limits: stricter limits of some vision precisions.
        n_threads: CPU threads.
        progress: called with the name of a step and the share of it that is done.

    Returns:
        ``fidelity`` of the manifest, plain JSON values.

    Raises:
        ParityError: a stage is beyond its limit. Of language files only the most precise one has limits, and only where
            it is F32, F16, BF16 or Q8_0; the others have a verdict.
    """
    from .reference import Reference  # loads PyTorch

    report = progress or silent
    base = most_precise(files.llm)
    with open_reference() if open_reference else Reference(checkpoint, n_threads) as torch_model:
        pixels, pixels_stage = _pixels(inputs, torch_model.pixels)
        images = torch_model.encode_images(pixels, part_of(report, "parity: PyTorch, images"))
        towers = encode_files(files.vision, pixels, n_threads, report)
        vision_stages = {p: embeddings_stage(p, rows, images, vision_limits) for p, rows in towers.items()}
        with GgufRuntime(files.llm[base], n_threads=n_threads) as runtime:
            prompts = prompts_of(runtime, inputs)
            tokens_stage = _tokens_stage(runtime, prompts, checkpoint)
            asked, ours = write_continuations(runtime, prompts, images, part_of(report, f"parity: {base}"))
            scores = scores_of_towers(runtime, prompts, towers, report)
        flat = torch_model.logits([s for of_photo in asked for s in of_photo], part_of(report, "parity: PyTorch"))
    answers = iter(flat)
    expected = Expected(PYTORCH, prompts, asked, [[next(answers) for _ in of_photo] for of_photo in asked])
    comparison = language_proof.compare(files.llm[base].name, expected, ours)
    own_scores, whole = expected.scores(ours), scores[next(iter(towers))]
    drift = max(abs(a - b) for a, b in zip(whole, expected.scores(expected.logits), strict=True))
    language_stages = _language_stages(base, comparison, drift)
    for stage in language_stages:
        stage.check()
    first_vision = vision_stages[next(iter(towers))]
    known = {base: language_proof.describe(files.llm[base], expected, comparison)}
    return {
        "checked": True,
        **({} if base in LANGUAGE_LIMITS else {"note": _NO_LIMITS}),
        "reference": torch_model.description,
        "photos": [name for name, _ in inputs.photos],
        "n_positions": expected.n_positions,
        "stages": as_records([pixels_stage, first_vision, tokens_stage, *language_stages]),
        "types": measure_types(files, expected, known, n_threads=n_threads, report=report),
        "vision": {
            p: vision_proof.describe(files.vision[p], stage, scores[p], own_scores, PYTORCH)
            for p, stage in vision_stages.items()
        },
        "verdicts": limits_of_verdicts(),
    }


def _pixels(inputs: Inputs, reference: Callable[[Image.Image], FloatArray]) -> tuple[list[FloatArray], Stage]:
    """Return the reference's pixels, after ours were compared with them."""
    stage = Stage("pixels", {"max_abs_diff": PIXELS_MAX_ABS})
    found = []
    for _, photo in inputs.photos:
        found.append(reference(photo))
        stage.add(max_abs_diff=max_abs_diff(preprocess(photo, inputs.image), found[-1]))
        stage.check()
    return found, stage


def _tokens_stage(runtime: GgufRuntime, prompts: Prompts, checkpoint: Checkpoint) -> Stage:
    """Compare llama.cpp's tokens with those of the checkpoint's own tokenizer.

    Raises:
        ParityError: they differ.
    """
    theirs = replace(prompts, texts={text: checkpoint.encode(text) for text in prompts.texts})
    language_proof.check_vocabulary(runtime, theirs, "the checkpoint's tokenizer")
    return Stage("prompt tokens", {}, {"n_tokens": sum(map(len, prompts.texts.values()))})


def _language_stages(base: str, comparison: FileComparison, whole_drift: float) -> list[Stage]:
    """Return the stages of the most precise language file, not checked yet."""
    limits = LANGUAGE_LIMITS.get(base, {})
    answers = comparison.answers
    first = Stage(FIRST, dict(limits.get(FIRST, {})))
    first.add(
        mean_kl=float(np.mean([p.kl[0] for p in answers])),
        max_relative_diff=float(max(p.relative_diff[0] for p in answers)),
    )
    score = Stage(SCORE, dict(limits.get(SCORE, {})))
    score.add(max_score_drift=whole_drift)
    kl = np.concatenate([p.kl for p in answers])
    right = np.concatenate([p.equal | p.tied for p in answers])
    greedy = Stage(GREEDY, dict(limits.get(GREEDY, {})))
    greedy.add(
        n_equal=min(_n_until(~p.equal) for p in answers),
        n_equal_or_tied=min(_n_until(~(p.equal | p.tied)) for p in answers),
        min_share_equal_or_tied=float(right.mean()),
        mean_kl=float(kl.mean()),
        max_kl=float(kl.max()),
    )
    return [first, score, greedy]


def _n_until(found: npt.NDArray[np.bool_]) -> int:
    """Return how many positions lie before the first one that is found."""
    return int(found.argmax()) if found.any() else len(found)
