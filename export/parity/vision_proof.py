"""Compare vision graphs with a reference: image embeddings, and the effect of the difference on scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.system.machine import trim_heap
from aesedge.vision.tower import VisionTower

from .proof_inputs import part_of
from .stages import VISION_LIMITS, Stage, compare_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from .forced import Prompts
    from .gguf_runtime import GgufRuntime
    from .proof_inputs import OnProgress
    from .stages import FloatArray

_ORDER = ("fp32", "fp16", "int8")


def by_precision(precisions: Iterable[str]) -> list[str]:
    """Return vision precisions, the most precise first."""
    return sorted(precisions, key=lambda p: _ORDER.index(p) if p in _ORDER else len(_ORDER))


def encode_all(path: Path, pixels: Sequence[FloatArray], n_threads: int) -> list[FloatArray]:
    """Return the embeddings of images, float32 [n_image_tokens, n_embd] each, by one vision graph on the CPU."""
    with VisionTower(path, device="cpu", n_threads=n_threads) as tower:
        rows = [tower.encode(of_one) for of_one in pixels]
    trim_heap()
    return rows


def encode_files(
    vision: Mapping[str, Path], pixels: Sequence[FloatArray], n_threads: int, report: OnProgress
) -> dict[str, list[FloatArray]]:
    """Return every graph's embeddings of all photos, the most precise graph first."""
    found = {}
    for precision in by_precision(vision):
        report(f"parity: vision {precision}", 0.0)
        found[precision] = encode_all(vision[precision], pixels, n_threads)
        report(f"parity: vision {precision}", 1.0)
    return found


def embeddings_stage(
    precision: str,
    ours: Sequence[FloatArray],
    theirs: Sequence[FloatArray],
    limits: Mapping[str, Mapping[str, float]] | None = None,
) -> Stage:
    """Compare a graph's embeddings with the reference's.

    Args:
        precision: ``fp32``, ``fp16`` or ``int8``.
        ours: float32 [n_image_tokens, n_embd] of each photo.
        theirs: the reference's.
        limits: of some precisions, in place of ``VISION_LIMITS``.

    Raises:
        ParityError: a figure is beyond its limit.
    """
    of_all = {**VISION_LIMITS, **(limits or {})}
    stage = Stage(f"image embeddings {precision}", dict(of_all.get(precision, {})))
    for our, their in zip(ours, theirs, strict=True):
        stage.add(**compare_rows(our, their))
    stage.check()
    return stage


def vision_scores(
    runtime: GgufRuntime,
    prompts: Prompts,
    images: Sequence[FloatArray],
    progress: Callable[[float], None] | None = None,
) -> list[float]:
    """Return the scores, 0..10, that a language file gives to image embeddings."""
    found = []
    for i, rows in enumerate(images):
        first, *beginnings = runtime.logits([prompts.answers(rows, [[], []])[0], *prompts.beginnings(rows)])
        found.append(prompts.score(first[0], beginnings))
        if progress is not None:
            progress((i + 1) / len(images))
    return found


def scores_of_towers(
    runtime: GgufRuntime, prompts: Prompts, towers: Mapping[str, Sequence[FloatArray]], report: OnProgress
) -> dict[str, list[float]]:
    """Return the scores of every graph's embeddings."""
    return {
        precision: vision_scores(runtime, prompts, rows, part_of(report, f"parity: score of vision {precision}"))
        for precision, rows in towers.items()
    }


def describe(
    path: Path, stage: Stage, scores: Sequence[float], expected: Sequence[float], against: str
) -> dict[str, Any]:
    """Return what the manifest says of one vision graph.

    Args:
        path: the graph.
        stage: of :func:`embeddings_stage`.
        scores: what one language file gives to this graph's embeddings, 0..10 for each photo.
        expected: what it gives to the reference's.
        against: the reference.
    """
    drifts = np.abs(np.subtract(scores, expected))
    return {
        "n_bytes": path.stat().st_size,
        "against": against,
        **stage.figures,
        "mean_score_drift": float(drifts.mean()),
        "max_score_drift": float(drifts.max()),
        "limits": stage.limits,
    }
