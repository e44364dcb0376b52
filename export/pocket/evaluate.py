"""Measure pocket on test photographs: pairs ranked rightly, faults named, false alarms, answers, calibration.

    python -m aesedge_export.pocket.evaluate --cache DIR --bundle pocket --out FILE.json
    python -m aesedge_export.pocket.evaluate --cache DIR --bundle FOLDER --gguf f16,q8_0 --vision fp32,int8 --out ..

With several settings, each is measured, and compared with the first picture by picture. It knows photographs, faults
and a judge (judges.py); it does not know how the judge works inside.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import faults, photos
from .impression import severity
from .judges import BASELINES, BundleJudge, Judge, add_brisque
from .language import Speaker, label_probabilities, named_faults
from .questions import YES_NO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from PIL import Image

LEVELS = {"moderate": faults.MODERATE, "strong": faults.STRONG}
LADDER = {"slight": 0.2, "clear": 0.6, "severe": 1.0}
"""More strengths, which are scored only: does the score fall with every step?"""
STRENGTHS = {**LEVELS, **LADDER, "": 0.0}
BIN = 2.0
"""Width of the score's classes in the report of its calibration."""


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


Picture = tuple[str, str, "Image.Image"]


def versions_of(
    clean: Image.Image,
    number: int,
    seed: int,
    levels: Mapping[str, float] = LEVELS,
    which: Sequence[str] = faults.FAULTS,
) -> Iterator[Picture]:
    """Yield (fault, level, picture): the original, then each fault at each level."""
    yield "", "", clean
    for f, fault in enumerate(which):
        for level, strength in levels.items():
            rng = np.random.default_rng((seed, number, f))
            yield fault, level, faults.spoil(clean, {fault: strength}, rng)


def questions_about(fault: str, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Return (kind, question, beginning of the right answer) about a picture with one fault or with none."""
    found = []
    for question, (about, when_there) in YES_NO.items():
        if len(about) == 1 and about[0] in faults.FAULTS and fault in ("", *about):
            found.append(("yes/no", question, "Yes" if (fault != "") == when_there else "No"))
    question, answer = Speaker({fault: faults.STRONG} if fault else {}, rng).choice()
    return [*found, ("multiple choice", question, answer[:2])]


def ask(judge: Judge, image: Image.Image, fault: str, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return which questions were answered rightly."""
    asked = questions_about(fault, rng)
    right = defaultdict(list)
    answers = judge.answers_about(image, [question for _, question, _ in asked])
    for (kind, _, beginning), answer in zip(asked, answers, strict=True):
        right[kind].append(float(answer.startswith(beginning)))
    return dict(right)


def judge_all(
    judge: Judge,
    sources: Sequence[photos.Photo],
    cache: Path,
    *,
    seed: int = 1,
    critiques: bool = True,
    ladder: bool = False,
    questions: bool = False,
    baselines: bool = True,
) -> list[Row]:
    """Judge every photograph, its long side at 480 pixels, clean and spoilt.

    Args:
        judge: scores, writes and answers.
        sources: the photographs.
        cache: where they lie.
        seed: of the faults.
        critiques: whether critiques are written too.
        ladder: whether more strengths are scored.
        questions: whether questions are asked of clean and of strongly spoilt pictures.
        baselines: whether plain measures look at the pictures too.
    """
    rows: list[Row] = []
    for number, photo in enumerate(sources):
        clean = faults.fit(photos.load(cache, photo))
        pictures = list(versions_of(clean, number, seed))
        judged = judge.judge([image for _, _, image in pictures], critiques=critiques)
        for (fault, level, image), (score, text) in zip(pictures, judged, strict=True):
            plain = {name: measure(image) for name, measure in BASELINES.items()} if baselines else {}
            rng = np.random.default_rng((seed, number, len(rows)))
            right = ask(judge, image, fault, rng) if questions and level in ("", "strong") else {}
            rows.append(Row(photo.name, photo.group, photo.package, fault, level, score, text, plain, right))
        if ladder:
            _, *more = versions_of(clean, number, seed, LADDER)
            judged = judge.judge([image for _, _, image in more], critiques=False)
            for (fault, level, _), (score, _) in zip(more, judged, strict=True):
                rows.append(Row(photo.name, photo.group, photo.package, fault, level, score, "", {}))
        print(f"judged photograph {number + 1} of {len(sources)}", flush=True)
    return rows


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
    """Tell whether a critique has two to four whole sentences and repeats none."""
    sentences = [s for s in text.replace("!", ".").split(". ") if s]
    unique = len({s.rstrip(".") for s in sentences}) == len(sentences)
    return text.endswith(".") and 2 <= len(sentences) <= 5 and unique and text[:1].isupper()


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


def falls(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return, per fault, how surely the score falls: less the rank correlation of score and strength, per photo."""
    from scipy.stats import rankdata

    by_photo: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        for fault in faults.FAULTS if not row.fault else (row.fault,):
            by_photo[fault, row.photo].append(row)
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for (fault, _), mine in by_photo.items():
        ranks = [rankdata(values) for values in ([r.score for r in mine], [STRENGTHS[r.level] for r in mine])]
        level = min(np.ptp(r) for r in ranks) == 0
        value = 0.0 if level else -float(np.corrcoef(*ranks)[0, 1])
        for name in (fault, kind_of(fault)):
            found[name].append((value, mine[0].group))
    return {name: interval(*zip(*found[name], strict=True)) for name in (*faults.FAULTS, *KINDS)}


def taught_score(row: Row) -> float:
    """Return the score that the fault's true strength stands for."""
    high, medium, _ = label_probabilities(severity({row.fault: STRENGTHS[row.level]}))
    return 10 * (high + 0.5 * medium)


def calibration(rows: Sequence[Row]) -> dict[str, object]:
    """Return the mean score against the mean of what was to be said, per class of score, and their mean distance.

    The distance (expected calibration error, in points of 10) is weighted by how many pictures a class holds.
    """
    classes: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        classes[min(int(row.score / BIN), int(10 / BIN) - 1)].append(row)
    lines = [{"from": BIN * k, "to": BIN * (k + 1), "score": float(np.mean([r.score for r in mine])),
              "true": float(np.mean([taught_score(r) for r in mine])), "n": len(mine)}
             for k, mine in sorted(classes.items())]  # fmt: skip
    error = sum(abs(line["score"] - line["true"]) * line["n"] for line in lines) / len(rows)
    return {"classes": lines, "expected error of the score": error}


def summarise(rows: Sequence[Row]) -> dict[str, object]:
    """Turn judged pictures into figures with intervals."""

    def table(values: list[tuple[Row, float]]) -> dict[str, dict[str, float]]:
        found = {}
        for level in (*LEVELS, "all"):
            for fault in (*faults.FAULTS, *KINDS):
                use = [(v, r.group) for r, v in values if level in (r.level, "all")
                       and fault in (r.fault, kind_of(r.fault))]  # fmt: skip
                found[f"{fault}, {level}"] = interval(*zip(*use, strict=True))
        return found

    result: dict[str, object] = {"n_photos": len({r.photo for r in rows})}
    if any(r.level in LADDER for r in rows):
        result["score falls with strength"] = falls(rows)
    rows = [r for r in rows if r.level not in LADDER]
    result["pairs"] = table(pairs(rows, lambda r: r.score))
    result["baselines"] = {
        name: {k: v for k, v in table(pairs(rows, _baseline(name))).items() if k.startswith(KINDS)}
        for name in rows[0].baselines
    }
    if held_out := [r for r in rows if r.package in photos.HELD_OUT]:
        whole = table(pairs(held_out, lambda r: r.score))
        result["pairs of whole sources kept out"] = {k: v for k, v in whole.items() if k.startswith("all")}
    clean = [r for r in rows if not r.fault]
    result["score of clean photographs"] = interval([r.score for r in clean], [r.group for r in clean])
    result["calibration"] = calibration(rows)
    if any(r.critique for r in rows):
        named = [(r, float(r.fault in named_faults(r.critique))) for r in rows if r.fault]
        result["fault named in the critique"] = table(named)
        wrong = [(r, float(bool(named_faults(r.critique) - {r.fault}))) for r in rows if r.fault]
        result["absent fault named in the critique of a spoilt photograph"] = table(wrong)
        alarms = [(float(bool(named_faults(r.critique))), r.group) for r in clean]
        result["clean photographs called faulty"] = interval(*zip(*alarms, strict=True))
        formed = [float(well_formed(r.critique)) for r in rows]
        result["well formed critiques"] = interval(formed, [r.group for r in rows])
        result["distinct critiques"] = len({r.critique for r in rows})
    spoilt = {kind: [r for r in rows if r.fault and kind_of(r.fault) == kind] for kind in KINDS}
    for kind in ("yes/no", "multiple choice"):
        for name, use in (("clean", clean), ("strong faults", spoilt[KINDS[0]]), ("other faults", spoilt[KINDS[1]])):
            answers = [(value, r.group) for r in use for value in r.right.get(kind, ())]
            if answers:
                result[f"{kind} answered rightly, {name}"] = interval(*zip(*answers, strict=True))
    return result


GOALS = {
    "pairs, strong": 0.97, "pairs, moderate": 0.90, "named, strong": 0.85, "clean called faulty": 0.10,
    "score falls": 0.9, "well formed": 0.99,
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
        "yes/no": result.get("yes/no answered rightly, strong faults"),
        "multiple choice": result.get("multiple choice answered rightly, strong faults"),
    }
    return {name: figure for name, figure in found.items() if figure}


def print_headline(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one line for each figure, one column for each setting, shares in percent."""
    print(f"{'':20}{'goal':>6}  " + "".join(f"{name:28}" for name in settings))
    tables = [headline(result) for result in settings.values()]
    for name in tables[0]:
        goal = f"{100 * GOALS[name]:.0f}" if name in GOALS else ""
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


def judge_of(options: argparse.Namespace, gguf: str, vision: str, tokens: str) -> tuple[str, Judge]:
    """Return the name of a setting and its judge."""
    if options.checkpoint:
        from .torch_judge import TorchJudge

        return "PyTorch", TorchJudge(options.checkpoint)
    chosen = {"gguf": gguf, "vision": vision, "image_tokens": int(tokens) if tokens else None}
    given = {name: value for name, value in chosen.items() if value}
    return " ".join(str(value) for value in given.values()) or options.bundle, BundleJudge(options.bundle, **given)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that training filled")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", type=Path, help="Hugging Face checkpoint folder, judged with PyTorch")
    which.add_argument("--bundle", help="bundle name or folder, judged with aesedge")
    parser.add_argument("--gguf", default="", help="types of the bundle's language model, separated by commas")
    parser.add_argument("--vision", default="", help="precisions of the vision graph, separated by commas")
    parser.add_argument("--tokens", default="", help="numbers of image tokens, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    splits = ("test", "validation")
    parser.add_argument("--split", choices=splits, default="test", help="validation is for choosing between runs")
    parser.add_argument("--limit", type=int, default=0, help="stop after this many photographs")
    parser.add_argument("--no-critiques", action="store_true", help="scores only")
    parser.add_argument("--brisque", action="store_true", help="also rank with the package brisque")
    options = parser.parse_args(arguments)
    if options.brisque:
        add_brisque()
    sources = [p for p in photos.gather(options.cache) if p.split == options.split]
    sources = sources[: options.limit or len(sources)]
    more = not options.no_critiques
    from .judge_scenes import scene_figures  # which takes its intervals from here

    found: dict[str, dict[str, object]] = {}
    first: list[Row] = []
    for setting in product(options.gguf.split(","), options.vision.split(","), options.tokens.split(",")):
        name, judge = judge_of(options, *setting)
        print(f"== {name}", flush=True)
        rows = judge_all(
            judge, sources, options.cache, critiques=more, ladder=True, questions=more, baselines=not found
        )
        result = summarise(rows)
        if more and not options.limit:
            result["composition of scenes"] = scene_figures(judge, options.cache, options.split)
        if found:
            result["change"] = changes(rows, first)
        else:
            first = rows
            written = json.dumps([asdict(r) for r in rows], indent=0)
            options.out.with_suffix(".rows.json").write_text(written, "utf-8")
        print_summary(result)
        found[name] = result
    print_headline(found)
    whole = {"split": options.split, **next(iter(found.values())), "settings": found}
    options.out.write_text(json.dumps(whole, indent=1), "utf-8")


if __name__ == "__main__":
    main()
