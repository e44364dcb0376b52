"""How ``aesedge info`` shows what was measured when a bundle was made; knows tables, not how the figures came about.

A manifest's ``fidelity`` is read leniently: what a figure is called has changed, and a bundle of before must be shown.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from aesedge.cli.terminal import dim, size, table
from aesedge.manifest import Manifest

_SHOWN = {"checked", "reason", "reference", "photos", "n_positions", "note", "stages", "types", "vision", "verdicts"}
_NARROW = 80
_OTHER_FILES = {"without_importance": "no matrix", "with_importance": "with matrix"}
"""What an export compared a file with, and did not keep."""


def fidelity_text(manifest: Manifest) -> str:
    """Return all that is known about how faithful a bundle is, in tables at most 80 columns wide."""
    fidelity = manifest.fidelity
    stages = [stage for stage in fidelity.get("stages") or [] if isinstance(stage, dict)]
    blocks = [
        _summary(fidelity),
        _stages(stages),
        _vision(manifest, _records(fidelity, "vision")),
        _types(manifest, _records(fidelity, "types")),
        _legend(_records(fidelity, "verdicts")),
        _rest({key: value for key, value in fidelity.items() if key not in _SHOWN}),
    ]
    return "\n\n".join(block for block in blocks if block)


def _records(fidelity: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    found = fidelity.get(key)
    return {name: r for name, r in found.items() if isinstance(r, dict)} if isinstance(found, dict) else {}


def _summary(fidelity: Mapping[str, Any]) -> str:
    photos = ", ".join(map(str, fidelity.get("photos") or []))
    n_positions = fidelity.get("n_positions")
    facts = {
        "compared with": str(fidelity.get("reference") or "nothing"),
        "": "" if fidelity.get("checked") else f"not with PyTorch: {fidelity.get('reason') or 'it was not asked for'}",
        "on": photos + (f"; {n_positions} next-token distributions" if n_positions else ""),
        "note": str(fidelity.get("note") or ""),
    }
    rows = []
    for key, text in facts.items():
        rows += [[key if i == 0 else "", line] for i, line in enumerate(_wrapped(text, len("compared with  ")))]
    return table(rows)


def _stages(stages: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for stage in stages:
        limits = stage.get("limits") or {}
        for i, (figure, value) in enumerate((stage.get("figures") or {}).items()):
            name = str(stage.get("stage", "")) if i == 0 else ""
            rows.append([name, _words(figure), _short(value, figure), _limit(figure, limits.get(figure))])
    return table(rows, header=["stage", "figure", "value", "limit"]) if rows else ""


def _limit(figure: str, limit: object) -> str:
    if limit is None:
        return ""
    return f"at {'least' if figure.startswith(('min_', 'n_')) else 'most'} {_short(limit, figure)}"


def _vision(manifest: Manifest, records: Mapping[str, Mapping[str, Any]]) -> str:
    rows, remarks = [], []
    for precision, record in records.items():
        least = (record.get("limits") or {}).get("min_cosine")
        cosines = [_short(value, "cosine") for value in (record.get("min_cosine"), least)]
        figures = [_short(record.get("max_relative_diff")), _points(record), str(record.get("against", ""))]
        rows.append([precision, _size(manifest, "vision", precision, record), *cosines, *figures])
        for key, kept in record.items():
            if key.endswith("_in_fp32") and kept:
                names = ", ".join(map(str, kept))
                remarks.append(f"{precision} keeps in fp32: {names}")
    header = ["vision", "size", "cosine", "limit", "relative diff", "drift", "against"]
    return _with_remarks(_table([row for row in rows if any(row[2:])], header), remarks)


def _types(manifest: Manifest, records: Mapping[str, Mapping[str, Any]]) -> str:
    rows, remarks = [], []
    for gguf_type, record in records.items():
        rows.append(_type_row(gguf_type.lower(), _size(manifest, "llm", gguf_type, record), record))
        for key, name in _OTHER_FILES.items():
            other = record.get(key)
            if isinstance(other, dict):
                n = {"n_positions": record.get("n_positions"), "against": record.get("against")}
                rows.append(_type_row(f"  {name}", "", {**n, **other}))
                remarks.append(f"{name}: the same type quantized {key.replace('_', ' ')} of inputs; the better is kept")
        otherwise = record.get("stored_otherwise")
        if isinstance(otherwise, dict) and otherwise:
            kinds = ", ".join(sorted({str(kind).lower() for kind in otherwise.values()}))
            remarks.append(f"{gguf_type.lower()}: {len(otherwise)} tensors do not fit it and are {kinds}")
    header = ["gguf", "size", "mean KL", "top-1", "drift", "verdict", "against"]
    return _with_remarks(_table([row for row in rows if any(row[2:])], header), remarks)


def _table(rows: list[list[str]], header: list[str]) -> str:
    """Return a table without the columns that say nothing: older bundles know less."""
    told = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return table([[row[i] for i in told] for row in rows], header=[header[i] for i in told]) if rows else ""


def _with_remarks(text: str, remarks: Iterable[str]) -> str:
    lines = [line for remark in dict.fromkeys(remarks) for line in _wrapped(remark)]
    return "\n".join(filter(None, [text, *map(dim, lines)]))


def _wrapped(text: str, n_before: int = 0) -> list[str]:
    """Return text in lines that fit behind so many columns."""
    return textwrap.wrap(text, max(20, min(_NARROW, shutil.get_terminal_size().columns) - n_before))


def _type_row(name: str, n_bytes: str, record: Mapping[str, Any]) -> list[str]:
    n_equal, n = record.get("n_top1_equal", record.get("n_argmax_equal")), record.get("n_positions")
    n = n or record.get("n_prompts")
    share = f"{100 * n_equal / n:.1f} %" if isinstance(n_equal, int) and isinstance(n, int) and n else ""
    figures = [_short(record.get("mean_kl")), share, _points(record)]
    return [name, n_bytes, *figures, str(record.get("verdict", "")), str(record.get("against") or "")]


def _points(record: Mapping[str, Any]) -> str:
    """Return the greatest change of a score, in points of 0..10."""
    drift = record.get("max_score_drift")
    return f"{drift:.3f}" if isinstance(drift, float | int) else ""


def _size(manifest: Manifest, role: str, type_: str, record: Mapping[str, Any]) -> str:
    sizes = (f.n_bytes for f in manifest.files if (f.role, f.type.lower()) == (role, type_.lower()))
    n_bytes = next(sizes, record.get("n_bytes"))
    return size(n_bytes) if isinstance(n_bytes, int) else ""


def _legend(verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the verdicts mean."""
    lines = [
        f"{verdict}: mean KL at most {_short(limits.get('mean_kl'))} nats, "
        f"drift at most {_short(limits.get('max_score_drift'))}"
        for verdict, limits in verdicts.items()
    ]
    if lines:
        lines.insert(0, "drift: the greatest change of a photo's score, in points of 0 to 10")
    return "\n".join(dim(line) for line in lines)


def _rest(figures: Mapping[str, Any]) -> str:
    """Return what this module has no table for."""
    found = _flat({key: value for key, value in figures.items() if isinstance(value, dict)}, "")
    widest = max((len(name) for name, _ in found), default=0) + 2
    rows = [[name if i == 0 else "", line] for name, text in found for i, line in enumerate(_wrapped(text, widest))]
    return table(rows, header=["also measured", "value"]) if rows else ""


def _flat(value: Mapping[str, Any], above: str) -> list[tuple[str, str]]:
    """Return nested figures as pairs of name and value."""
    found: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{above} {_words(key)}".strip()
        if isinstance(inner, dict):
            found += _flat(inner, name)
        else:
            found.append((name, ", ".join(map(_short, inner)) if isinstance(inner, list) else _short(inner)))
    return found


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(value: object, figure: str = "") -> str:
    if value is None:
        return ""
    n_digits = 6 if "cosine" in figure else 3  # what matters of a cosine is how many nines it has
    return f"{value:.{n_digits}g}" if isinstance(value, float) else str(value)
