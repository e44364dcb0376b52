"""Text of ``info``: what was measured when a bundle was made."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aesedge.bundle.manifest import Manifest
from aesedge.cli.terminal import dim, shown, table
from aesedge.system.byte_sizes import size_text

if TYPE_CHECKING:
    from aesedge.bundle.fidelity import Fidelity, LanguageFidelity, LanguageFigures, StageFigures, VisionFidelity

_NARROW = 80


def fidelity_text(manifest: Manifest) -> str:
    """Return all that is known about how faithful a bundle is, in tables at most 80 columns wide."""
    fidelity = manifest.fidelity
    blocks = [
        _summary(fidelity),
        _stages(fidelity.stages),
        _vision(manifest, fidelity.vision),
        _types(manifest, fidelity.types),
        _legend(fidelity.verdicts),
    ]
    return "\n\n".join(block for block in blocks if block)


def _summary(fidelity: Fidelity) -> str:
    n = fidelity.n_positions
    facts = {
        "compared with": fidelity.reference or "nothing",
        "": "" if fidelity.checked else f"not with PyTorch: {fidelity.reason or 'it was not asked for'}",
        "on": ", ".join(fidelity.photos) + (f"; {n} next-token distributions" if n else ""),
        "note": fidelity.note,
        "importance on": ", ".join(fidelity.importance.photos) if fidelity.importance else "",
    }
    rows = []
    for key, text in facts.items():
        rows += [[key if i == 0 else "", line] for i, line in enumerate(_wrapped(text, len("compared with  ")))]
    return table(rows)


def _stages(stages: Iterable[StageFigures]) -> str:
    rows = []
    for stage in stages:
        for i, (figure, value) in enumerate(stage.figures.items()):
            name = stage.stage if i == 0 else ""
            rows.append([name, _words(figure), _short(value, figure), _limit(figure, stage.limits.get(figure))])
    return table(rows, header=["stage", "figure", "value", "limit"]) if rows else ""


def _limit(figure: str, limit: float | None) -> str:
    if limit is None:
        return ""
    return f"at {'least' if figure.startswith(('min_', 'n_')) else 'most'} {_short(limit, figure)}"


def _vision(manifest: Manifest, records: Mapping[str, VisionFidelity]) -> str:
    rows, remarks = [], []
    for precision, record in records.items():
        cosines = [_short(value, "cosine") for value in (record.min_cosine, record.limits.get("min_cosine"))]
        figures = [_short(record.max_relative_diff), _points(record.max_score_drift), record.against]
        rows.append([precision, _size(manifest, "vision", precision, record.n_bytes), *cosines, *figures])
        kept = [*record.layers_in_fp32, *record.nodes_in_fp32]
        if kept:
            remarks.append(f"{precision} keeps in fp32: {', '.join(kept)}")
    header = ["vision", "size", "cosine", "limit", "relative diff", "drift", "against"]
    return _with_remarks(_table([row for row in rows if any(row[2:])], header), remarks)


def _types(manifest: Manifest, records: Mapping[str, LanguageFidelity]) -> str:
    rows, remarks = [], []
    for gguf_type, record in records.items():
        name, against = gguf_type.lower(), record.against
        rows.append([name, _size(manifest, "llm", gguf_type, record.n_bytes), *_figures(record, record), against])
        others = {"no matrix": record.without_importance, "with matrix": record.with_importance}
        for other, (words, figures) in zip(("without", "with"), others.items(), strict=True):
            if figures is not None:
                rows.append([f"  {words}", "", *_figures(figures, record), against])
                remarks.append(f"{words}: the same type quantized {other} importance of inputs; the better is kept")
        if record.stored_otherwise:
            kinds = ", ".join(sorted({kind.lower() for kind in record.stored_otherwise.values()}))
            remarks.append(f"{name}: {len(record.stored_otherwise)} tensors do not fit it and are {kinds}")
    header = ["gguf", "size", "mean KL", "top-1", "drift", "verdict", "against"]
    return _with_remarks(_table([row for row in rows if any(row[2:])], header), remarks)


def _figures(record: LanguageFigures, whole: LanguageFigures) -> list[str]:
    """Return mean KL, share of equal likeliest tokens, drift and verdict.

    Args:
        record: of one file.
        whole: which has the number of positions.
    """
    n_equal = record.n_argmax_equal if record.n_top1_equal is None else record.n_top1_equal
    n = whole.n_positions or whole.n_prompts
    share = f"{100 * n_equal / n:.1f} %" if n and n_equal is not None else ""
    return [_short(record.mean_kl), share, _points(record.max_score_drift), record.verdict]


def _table(rows: list[list[str]], header: list[str]) -> str:
    """Return a table without the columns that say nothing: older bundles know less."""
    told = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return table([[row[i] for i in told] for row in rows], header=[header[i] for i in told]) if rows else ""


def _with_remarks(text: str, remarks: Iterable[str]) -> str:
    lines = [line for remark in dict.fromkeys(remarks) for line in _wrapped(remark)]
    return "\n".join(filter(None, [text, *map(dim, lines)]))


def _wrapped(text: str, n_before: int = 0) -> list[str]:
    """Return text in lines that leave room for ``n_before`` columns."""
    return textwrap.wrap(shown(text), max(20, min(_NARROW, shutil.get_terminal_size().columns) - n_before))


def _points(drift: float | None) -> str:
    """Return a change of a score, in points of 0..10."""
    return "" if drift is None else f"{drift:.3f}"


def _size(manifest: Manifest, role: str, type_: str, otherwise: int | None) -> str:
    sizes = (f.n_bytes for f in manifest.files if (f.role, f.type.lower()) == (role, type_.lower()))
    n_bytes = next(sizes, otherwise)
    return "" if n_bytes is None else size_text(n_bytes)


def _legend(verdicts: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return what the verdicts mean."""
    lines = [
        f"{verdict}: mean KL at most {_short(limits.get('mean_kl'))} nats, "
        f"drift at most {_short(limits.get('max_score_drift'))}"
        for verdict, limits in verdicts.items()
    ]
    if lines:
        lines.insert(0, "drift: the greatest change of a photo's score, in points of 0 to 10")
    return "\n".join(dim(shown(line)) for line in lines)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(value: float | None, figure: str = "") -> str:
    if value is None:
        return ""
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:.0f}"
    n_digits = 6 if "cosine" in figure else 3  # what matters of a cosine is how many nines it has
    return f"{value:.{n_digits}g}"
