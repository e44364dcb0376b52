"""Write the language model files of a bundle, with an importance matrix if photos were given."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aesedge.bundle.gguf_types import PRECISE_TYPES
from aesedge.system.byte_sizes import size_text

from .imatrix_file import write_imatrix
from .language_gguf import language_bytes, write_language

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ..progress import OnProgress
    from .importance import Importance
    from .language_gguf import PassProgress
    from .language_source import LanguageSource

    Gather = Callable[[Path], Importance]
    """Watches a language file at work."""


CALIBRATION_TYPE = "Q8_0"
"""What is watched where none of these was asked for: half the size of F16, and its inputs are F16's within noise."""
IMATRIX_NAME = "importance.gguf"


@dataclass(frozen=True)
class LanguageFiles:
    """What was written."""

    llm: dict[str, Path]
    """Quantization type to file, in the order that was asked for."""
    stored_otherwise: dict[str, dict[str, str]]
    """Quantization type to the tensors whose rows do not fit it, and the type in which they are stored."""
    imatrix: Path | None = None
    """The importance matrix that was used."""
    without_importance: dict[str, Path] = field(default_factory=dict)
    """The same types without it, for comparison; they are gone after the block."""


@contextmanager
def language_files(
    source: LanguageSource,
    types: Sequence[str],
    folder: Path,
    *,
    gather: Gather | None = None,
    n_threads: int,
    report: OnProgress,
) -> Iterator[LanguageFiles]:
    """Write the asked types in one pass over their source; with an importance matrix in two.

    Args:
        source: the language model.
        types: quantization types.
        folder: where they are written.
        gather: measures the importance of each input, on a language file; None does without.
        n_threads: threads that quantize.
        report: called with step, share done, and what is being written.

    Yields:
        The files. Those that only serve the comparison are removed behind the block.

    Raises:
        CheckpointError, BundleError: see :func:`.language_gguf.write_language`.
    """
    paths = {t: folder / f"llm-{t.lower()}.gguf" for t in types}
    weighted = [t for t in types if t not in PRECISE_TYPES]
    if gather is None or not weighted:
        otherwise = write_language(source, paths, n_threads=n_threads, progress=report_pass(report, "language model"))
        yield LanguageFiles(paths, otherwise)
        return
    plain = {t: folder / f"without-importance-{t.lower()}.gguf" for t in weighted}
    first = {t: plain.get(t, path) for t, path in paths.items()}
    watched = next((t for t in PRECISE_TYPES[1:] if t in paths), None)
    if watched is None:
        watched, first[CALIBRATION_TYPE] = CALIBRATION_TYPE, folder / "calibration.gguf"
    otherwise = write_language(source, first, n_threads=n_threads, progress=report_pass(report, "language model"))
    importance = gather(first[watched])
    if watched not in paths:
        first[watched].unlink()
    imatrix = folder / IMATRIX_NAME
    write_imatrix(importance, imatrix)
    otherwise |= write_language(
        source,
        {t: paths[t] for t in weighted},
        importance=importance.values,
        n_threads=n_threads,
        progress=report_pass(report, "language model, weighted by importance"),
    )
    yield LanguageFiles(paths, {t: otherwise[t] for t in types}, imatrix, plain)
    for path in plain.values():
        path.unlink(missing_ok=True)


def keep_the_better(files: LanguageFiles, types: Mapping[str, dict[str, Any]]) -> None:
    """Replace files that came out worse with an importance matrix by those without.

    On some models it costs more than it gains: Q2_K of the bundle pocket is one of them.

    Args:
        files: with both; those without the matrix are moved where they are the better ones.
        types: quantization type to its figures, the other file's under ``without_importance``. Where files change
            places, figures do too, and the worse ones stand under ``with_importance``.
    """
    for gguf_type, path in files.without_importance.items():
        figures = types.get(gguf_type, {})
        without = figures.get("without_importance")
        if without is None or not without["mean_kl"] < figures["mean_kl"]:
            continue
        path.replace(files.llm[gguf_type])
        del figures["without_importance"]
        figures["with_importance"] = {key: figures[key] for key in without}
        figures |= {**without, "n_bytes": files.llm[gguf_type].stat().st_size}


def work_bytes(source: LanguageSource, types: Sequence[str], *, calibrated: bool) -> int:
    """Return how much room :func:`language_files` needs at most, files for comparison included."""
    sizes = language_bytes(source, types)
    if not calibrated:
        return sum(sizes.values())
    weighted = sum(size for t, size in sizes.items() if t not in PRECISE_TYPES)
    is_extra = not any(t in PRECISE_TYPES for t in types)
    calibration = language_bytes(source, [CALIBRATION_TYPE])[CALIBRATION_TYPE] if is_extra else 0
    return sum(sizes.values()) + max(weighted, calibration)


def report_pass(report: OnProgress, step: str) -> Callable[[PassProgress], None]:
    """Return what reports the share of a pass, and the tensor that is being written."""
    report(step, 0.0)

    def show(progress: PassProgress) -> None:
        done, total = size_text(progress.n_done_bytes), size_text(progress.n_total_bytes)
        report(step, progress.n_done_bytes / progress.n_total_bytes, f"{progress.tensor}, {done} of {total}")

    return show
