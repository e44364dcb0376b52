"""Compare a bundle's files with its own most precise ones, where there is no checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aesedge.image import preprocess

from ..progress import silent
from . import vision_proof
from .gguf_runtime import GgufRuntime
from .language_proof import Expected, measure_file, most_precise, write_continuations
from .proof_inputs import part_of, prompts_of
from .verdict import limits_of_verdicts
from .vision_proof import by_precision, embeddings_stage, encode_all, encode_files, scores_of_towers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .proof_inputs import BundleFiles, Inputs, OnProgress
    from .stages import FloatArray


_OF_IMPORTANCE = ("mean_kl", "max_kl", "n_top1_equal", "mean_score_drift", "max_score_drift", "verdict")


def not_proven(reason: str) -> dict[str, Any]:
    """Return the fidelity of a bundle that nothing was compared with."""
    return {"checked": False, "reason": reason, "types": {}}


def compare_files(
    files: BundleFiles,
    inputs: Inputs,
    *,
    reason: str,
    vision_limits: Mapping[str, Mapping[str, float]] | None = None,
    n_threads: int,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Compare the files of a bundle with its most precise ones, where there is no checkpoint; loads no PyTorch.

    Args:
        files: the bundle's.
        inputs: photos, and the questions of the manifest.
        reason: why there is no comparison with PyTorch, for the manifest.
        vision_limits: stricter limits of some vision precisions.
        n_threads: CPU threads.
        progress: called with the name of a step and the share of it that is done.

    Returns:
        ``fidelity`` of the manifest, with ``checked`` false and the figures of all files but the most precise ones.

    Raises:
        ParityError: a vision graph is beyond its limit, or a language file is of another vocabulary or not finite.
    """
    report = progress or silent
    base, best = most_precise(files.llm), by_precision(files.vision)[0]
    pixels = [preprocess(photo, inputs.image) for _, photo in inputs.photos]
    towers = encode_files(files.vision, pixels, n_threads, report)
    images = towers.pop(best)
    stages = {p: embeddings_stage(p, rows, images, vision_limits) for p, rows in towers.items()}
    with GgufRuntime(files.llm[base], n_threads=n_threads) as runtime:
        prompts = prompts_of(runtime, inputs)
        expected = Expected(
            base, prompts, *write_continuations(runtime, prompts, images, part_of(report, f"parity: {base}"))
        )
        scores = scores_of_towers(runtime, prompts, towers, report)
    own_scores = expected.scores(expected.logits)
    return {
        "checked": False,
        "reason": reason,
        "reference": f"{base} on llama.cpp, {best} image embeddings",
        "photos": [name for name, _ in inputs.photos],
        "n_positions": expected.n_positions,
        "stages": [],
        "types": measure_types(files, expected, {base: {}}, n_threads=n_threads, report=report),
        "vision": {
            p: vision_proof.describe(files.vision[p], stage, scores[p], own_scores, best) for p, stage in stages.items()
        },
        "verdicts": limits_of_verdicts(),
    }


def compare_types(
    base: tuple[str, Path],
    others: BundleFiles,
    inputs: Inputs,
    *,
    n_threads: int,
    progress: OnProgress | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare language files with a more precise one of the same bundle; loads no PyTorch.

    Args:
        base: type and file of the reference.
        others: the files to compare (the base may be among them and is left out), and the bundle's vision graphs, of
            which the most precise one is used.
        inputs: photos, and the questions of the manifest.
        n_threads: CPU threads.
        progress: called with the name of a step and the share of it that is done.

    Returns:
        Type to figures and verdict, as in ``types`` of :func:`prove`.

    Raises:
        ParityError: a file is of another vocabulary or not finite.
    """
    report = progress or silent
    best = by_precision(others.vision)[0]
    pixels = [preprocess(photo, inputs.image) for _, photo in inputs.photos]
    expected = expect(base, encode_all(others.vision[best], pixels, n_threads), inputs, n_threads=n_threads)
    return measure_types(others, expected, {base[0]: {}}, n_threads=n_threads, report=report)


def expect(
    base: tuple[str, Path],
    images: Sequence[FloatArray],
    inputs: Inputs,
    *,
    n_threads: int,
    progress: OnProgress | None = None,
) -> Expected:
    """Ask a language file, so that others can be compared with it by :func:`.language_proof.measure_file`.

    Args:
        base: its type and the file.
        images: image embeddings, float32 [n_image_tokens, n_embd] of each photo.
        inputs: the questions of the manifest; its photos are not used.
        n_threads: CPU threads.
        progress: called with the name of a step and the share of it that is done.
    """
    with GgufRuntime(base[1], n_threads=n_threads) as runtime:
        prompts = prompts_of(runtime, inputs)
        part = part_of(progress or silent, f"parity: {base[0]}")
        return Expected(base[0], prompts, *write_continuations(runtime, prompts, images, part))


def measure_types(
    files: BundleFiles,
    expected: Expected,
    known: Mapping[str, dict[str, Any]],
    *,
    n_threads: int,
    report: OnProgress,
) -> dict[str, dict[str, Any]]:
    """Measure language files, and what importance matrices bought.

    Args:
        files: what to measure.
        expected: the reference's answers.
        known: figures of types that need no measuring; a type without figures is the reference and is left out.
        n_threads: CPU threads.
        report: called with the name of a step and the share of it that is done.

    Returns:
        Type to figures, in the order of the files.
    """

    def measured(step: str, path: Path) -> dict[str, Any]:
        return measure_file(path, expected, n_threads=n_threads, progress=part_of(report, f"parity: {step}"))

    types = {t: known[t] if t in known else measured(t, path) for t, path in files.llm.items()}
    for gguf_type, path in files.without_importance.items():
        found = measured(f"{gguf_type} without importance", path)
        types[gguf_type]["without_importance"] = {key: found[key] for key in _OF_IMPORTANCE}
    return {gguf_type: figures for gguf_type, figures in types.items() if figures}
