"""Show a comparison of settings: after ``eval compare``, and in ``info`` where a manifest keeps one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.cli.terminal import bold, dim, shown, table

if TYPE_CHECKING:
    from aesedge.bundle.fidelity import ComparedSetting, Comparison
    from aesedge.bundle.manifest import Manifest

_HEADERS = {
    "accuracy": ["setting", "right", "p", "by text", "p", "other", "a minute"],
    "srcc": ["setting", "SRCC", "change [95 %]", "drift", "a minute"],
}
_LEGENDS = {
    "accuracy": "right: by the likeliest letter; p: McNemar's test that it and the first setting have equally many\n"
    "right answers; other: questions with another letter",
    "srcc": "SRCC: rank correlation with people's ratings; change: against the first setting, on the same\n"
    "photographs; drift: mean change of the scores, points of 10",
}
_TIMED = "a minute: median of three rounds in turns, loading excluded, nothing cached"


def settings_text(found: Comparison) -> str:
    """Return a table of settings, and the recommended one."""
    kind = "accuracy" if found.measure == "accuracy" else "srcc"
    cells = _answer_cells if kind == "accuracy" else _rating_cells
    shown_table = table([[shown(one.name), *cells(one)] for one in found.settings], header=_HEADERS[kind])
    best = found.best
    parts = [
        shown_table,
        f"The fastest that loses nothing measurable: {shown(best.name)}\n{_power(best, found.n or 0, found.things)}"
        if best
        else "",
        dim(f"{_LEGENDS[kind]}\n{_TIMED}"),
    ]
    return "\n\n".join(filter(None, parts))


def _rating_cells(one: ComparedSetting) -> list[str]:
    change = "reference" if one.change is None else f"{one.change:+.3f} {_interval(one)}"
    return [_number(one.agreement), change, _number(one.drift), _rate(one.per_minute)]


def _answer_cells(one: ComparedSetting) -> list[str]:
    by_probability = _percent(one.agreement), "-" if one.p_value is None else f"{one.p_value:.3f}"
    by_text = _percent(one.text_agreement), "-" if one.text_p_value is None else f"{one.text_p_value:.3f}"
    return [*by_probability, *by_text, _percent(one.drift), _rate(one.per_minute)]


def _power(best: ComparedSetting, n: int, things: str) -> str:
    """Return how large a loss could have gone unseen."""
    if best.change_low is None:
        return f"measured on {n:,} {things}"
    unseen = max(0.0, -best.change_low)
    return f"measured on {n:,} {things}, which do not rule out a loss of {unseen:.3f}"


def comparison_text(found: Comparison, manifest: Manifest) -> str:
    """Return a comparison as a manifest keeps it, with what it was measured on."""
    kept = {file.path: file.sha256 for file in manifest.files}
    stale = [path for path, digest in found.files.items() if kept.get(path) != digest]
    libraries = ", ".join(f"{name} {version}" for name, version in found.libraries.items())
    facts = [
        ["compared on", found.data + (f", SHA-256 {found.data_sha256[:12]}…" if found.data_sha256 else "")],
        ["on", ", ".join(filter(None, [found.date, f"aesedge {found.aesedge}", libraries]))],
        ["machine", found.machine],
    ]
    if stale:
        facts.append(["other files now", ", ".join(stale)])
    return f"{bold('settings, compared by eval compare')}\n{table(facts)}\n\n{settings_text(found)}"


def _interval(one: ComparedSetting) -> str:
    return f"[{_number(one.change_low)}, {_number(one.change_high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _rate(per_minute: float | None) -> str:
    return "-" if per_minute is None else f"{per_minute:.0f}"
