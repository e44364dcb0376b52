"""Turn judged pictures into figures with intervals: pairs, names, false alarms, calibration; and print them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import faults, photos
from .language import named_faults, said_of
from .phrases import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LEVELS = {"moderate": faults.MODERATE, "strong": faults.STRONG}
LADDER = {"slight": 0.2, "clear": 0.6, "severe": 1.0}
"""More strengths, which are scored only: does the score fall with every step?"""
STRENGTHS = {**LEVELS, **LADDER, "": 0.0}


@dataclass(frozen=True)
class Row:
    """One judged picture; `fault` is empty for the clean original."""

    photo: str
    group: str
    package: str
    fault: str
    level: str
    score: float
    critique: str
    baselines: dict[str, float]
    right: dict[str, list[float]] = field(default_factory=dict)
    """Kind of question to 1 for each right answer and 0 for each wrong one."""
    attributes: dict[str, float] = field(default_factory=dict)
    """Attribute to its score."""


def interval(values: Sequence[float], groups: Sequence[str], *, seed: int = 0, n: int = 1000) -> dict[str, float]:
    """Return mean and 95 % interval; whole source photographs are drawn, because their rows are not independent."""
    by_group: dict[str, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        by_group[group].append(value)
    sums = np.array([(sum(v), len(v)) for v in by_group.values()])
    draws = np.random.default_rng(seed).integers(len(sums), size=(n, len(sums)))
    means = sums[draws].sum(1)
    low, high = np.percentile(means[:, 0] / means[:, 1], (2.5, 97.5))
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high), "n": len(values)}


def well_formed(text: str) -> bool:
    """Tell whether a critique has two to five sentences, each word for word as it was taught, none of them twice."""
    found = said_of(text) or []
    return 2 <= len(found) <= 5 and len(set(found)) == len(found)


def pairs(rows: Sequence[Row], value: Callable[[Row], float]) -> list[tuple[Row, float]]:
    """Return (spoilt row, 1 if its original got more, 0.5 if the same, 0 if less)."""
    clean = {r.photo: value(r) for r in rows if not r.fault}
    spoilt = [r for r in rows if r.fault]
    return [(r, float((np.sign(clean[r.photo] - value(r)) + 1) / 2)) for r in spoilt]


KINDS = ("all", "all others")
"""The faults of pocket's goals together, and all others together."""


def kind_of(fault: str) -> str:
    """Return with which faults a fault is counted."""
    return KINDS[0] if fault in faults.MAIN_FAULTS else KINDS[1]


def judged_faults(rows: Sequence[Row]) -> list[str]:
    """Return the faults that some picture has, in the order of faults.FAULTS."""
    there = {row.fault for row in rows}
    return [fault for fault in faults.FAULTS if fault in there]


def falls(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return, per fault, how surely the score falls: less the rank correlation of score and strength, per photo."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for fault, mine in ladders(rows):
        value = (fall(mine, [r.score for r in mine]), mine[0].group)
        for name in (fault, kind_of(fault)):
            found[name].append(value)
    return {name: interval(*zip(*values, strict=True)) for name, values in found.items()}


def attribute_falls(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return how surely each attribute falls with the strength of its own faults."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for fault, mine in ladders(rows):
        for attribute, faults_of_it in ATTRIBUTES.items():
            if fault in faults_of_it and all(attribute in r.attributes for r in mine):
                found[attribute].append((fall(mine, [r.attributes[attribute] for r in mine]), mine[0].group))
    return {name: interval(*zip(*values, strict=True)) for name, values in found.items()}


def ladders(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return each fault and photograph's rows, the clean one among them."""
    by_photo: dict[tuple[str, str], list[Row]] = defaultdict(list)
    judged = judged_faults(rows)
    for row in rows:
        for fault in judged if not row.fault else (row.fault,):
            by_photo[fault, row.photo].append(row)
    return [(fault, mine) for (fault, _), mine in by_photo.items()]


def fall(rows: Sequence[Row], values: Sequence[float]) -> float:
    """Return less the rank correlation of values and strengths of one ladder."""
    from scipy.stats import rankdata

    ranks = [rankdata(v) for v in (values, [STRENGTHS[r.level] for r in rows])]
    return 0.0 if min(np.ptp(r) for r in ranks) == 0 else -float(np.corrcoef(*ranks)[0, 1])


def table(values: Sequence[tuple[Row, float]]) -> dict[str, dict[str, float]]:
    """Return the mean per fault and level, and of all faults of a kind."""
    found = {}
    for level in (*LEVELS, "all"):
        for fault in (*faults.FAULTS, *KINDS):
            use = [(v, r.group) for r, v in values if level in (r.level, "all")
                   and fault in (r.fault, kind_of(r.fault))]  # fmt: skip
            if use:
                found[f"{fault}, {level}"] = interval(*zip(*use, strict=True))
    return found


def words_figures(rows: Sequence[Row]) -> dict[str, object]:
    """Return what the critiques name, rightly and wrongly, and how they are formed."""
    clean = [r for r in rows if not r.fault]
    named = [(r, float(r.fault in named_faults(r.critique))) for r in rows if r.fault]
    wrong = [(r, float(bool(named_faults(r.critique) - {r.fault}))) for r in rows if r.fault]
    alarms = [(float(bool(named_faults(r.critique))), r.group) for r in clean]
    formed = [float(well_formed(r.critique)) for r in rows]
    return {
        "fault named in the critique": table(named),
        "absent fault named in the critique of a spoilt photograph": table(wrong),
        "clean photographs called faulty": interval(*zip(*alarms, strict=True)),
        "well formed critiques": interval(formed, [r.group for r in rows]),
        "distinct critiques": len({r.critique for r in rows}),
    }


def summarise(rows: Sequence[Row]) -> dict[str, object]:
    """Turn judged pictures into figures with intervals."""
    result: dict[str, object] = {"n_photos": len({r.photo for r in rows})}
    if any(r.level in LADDER for r in rows):
        result["score falls with strength"] = falls(rows)
        result["attribute falls with its own faults"] = attribute_falls(rows)
    rows = [r for r in rows if r.level not in LADDER]
    result["pairs"] = table(pairs(rows, lambda r: r.score))
    result["baselines"] = {
        name: {k: v for k, v in table(pairs(with_baseline(rows, name), _baseline(name))).items() if k.startswith(KINDS)}
        for name in rows[0].baselines
    }
    if held_out := [r for r in rows if r.package in photos.HELD_OUT]:
        whole = table(pairs(held_out, lambda r: r.score))
        result["pairs of whole sources kept out"] = {k: v for k, v in whole.items() if k.startswith("all")}
    clean = [r for r in rows if not r.fault]
    result["score of clean photographs"] = interval([r.score for r in clean], [r.group for r in clean])
    if any(r.critique for r in rows):
        result.update(words_figures(rows))
    spoilt = {kind: [r for r in rows if r.fault and kind_of(r.fault) == kind] for kind in KINDS}
    for kind in ("yes/no", "multiple choice"):
        for name, use in (("clean", clean), ("strong faults", spoilt[KINDS[0]]), ("other faults", spoilt[KINDS[1]])):
            answers = [(value, r.group) for r in use for value in r.right.get(kind, ())]
            if answers:
                result[f"{kind} answered rightly, {name}"] = interval(*zip(*answers, strict=True))
    return result


GOALS = {
    "pairs, strong": 0.97, "pairs, moderate": 0.92, "named, strong": 0.85, "clean called faulty": 0.10,
    "score falls": 0.9, "well formed": 0.995, "every text": 0.995,
}  # fmt: skip
"""What pocket should reach; of clean photographs called faulty, at most."""


def headline(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the figures that GOALS asks for, as far as they were measured."""
    named, fell = result.get("fault named in the critique", {}), result.get("score falls with strength", {})
    found = {
        "pairs, strong": result["pairs"]["all, strong"],
        "pairs, moderate": result["pairs"]["all, moderate"],
        "named, strong": named.get("all, strong"),
        "clean called faulty": result.get("clean photographs called faulty"),
        "score falls": fell.get("all"),
        "well formed": result.get("well formed critiques"),
        "every text": result.get("well formed texts", {}).get("all"),
        "yes/no": result.get("yes/no answered rightly, strong faults"),
        "multiple choice": result.get("multiple choice answered rightly, strong faults"),
    }
    return {name: figure for name, figure in found.items() if figure}


def print_headline(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one line for each figure, one column for each setting, shares in percent."""
    print(f"{'':20}{'goal':>6}  " + "".join(f"{name:28}" for name in settings))
    tables = [headline(result) for result in settings.values()]
    for name in tables[0]:
        goal = f"{100 * GOALS[name]:g}" if name in GOALS else ""
        cells = [
            f"{100 * f['value']:5.1f} [{100 * f['low']:5.1f},{100 * f['high']:6.1f}]" for f in (t[name] for t in tables)
        ]
        print(f"{name:20}{goal:>6}  " + "".join(f"{cell:28}" for cell in cells))


def changes(rows: Sequence[Row], first: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return what a setting differs by from the first, picture by picture, as shares of right answers."""
    found = {}
    both = [[r for r in mine if r.level not in LADDER] for mine in (rows, first)]
    for level in LEVELS:
        ranked = [[(r.group, v) for r, v in pairs(mine, lambda r: r.score)
                   if r.level == level and kind_of(r.fault) == KINDS[0]] for mine in both]  # fmt: skip
        found[f"pairs, {level}"] = [(a - b, g) for (g, a), (_, b) in zip(*ranked, strict=True)]
    spoilt = [(a, b) for a, b in zip(*both, strict=True) if a.level == "strong" and kind_of(a.fault) == KINDS[0]]
    found["named, strong"] = [
        (float(a.fault in named_faults(a.critique)) - float(b.fault in named_faults(b.critique)), a.group)
        for a, b in spoilt
    ]
    return {name: interval(*zip(*values, strict=True)) for name, values in found.items()}


def with_baseline(rows: Sequence[Row], name: str) -> list[Row]:
    """Return the rows that this plain measure has looked at."""
    return [r for r in rows if name in r.baselines]


def _baseline(name: str) -> Callable[[Row], float]:
    return lambda row: row.baselines[name]


def print_summary(result: Mapping[str, object]) -> None:
    """Print every figure on a line of its own, shares in percent."""

    def show(name: str, figure: dict[str, float]) -> None:
        factor = 1 if "score of" in name else 100
        low, high = figure["low"] * factor, figure["high"] * factor
        print(f"{name:58s} {figure['value'] * factor:5.1f}  [{low:5.1f}, {high:5.1f}]  n={figure['n']}")

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict) and "low" in value:
            show(prefix, value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix} | {key}" if prefix else key, inner)
        elif isinstance(value, list):
            for line in value:
                print(f"{prefix:58s} " + ", ".join(f"{k} {v:.2f}" for k, v in line.items()))
        else:
            print(f"{prefix:58s} {value}")

    walk("", result)
