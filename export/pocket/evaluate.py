"""Measure pocket on test photographs: pairs ranked rightly, faults named, false alarms, beside plain baselines.

It knows photographs, faults and a judge with two abilities; it does not know how the judge works inside.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from . import faults, photos
from .language import named_faults
from .questions import CRITIQUE_QUESTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LEVELS = {"moderate": faults.MODERATE, "strong": faults.STRONG}


class Judge(Protocol):
    """What is measured: the PyTorch checkpoint, or a bundle in the runtime."""

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[tuple[float, str]]:
        """Return score (0 to 10) and critique of each picture."""
        ...


class BundleJudge:
    """A bundle behind aesedge's public API."""

    def __init__(self, bundle: str, **options: Any) -> None:
        import aesedge

        self.model = aesedge.open(bundle, **options)

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[tuple[float, str]]:
        """Look at each picture once."""
        found = []
        for image in images:
            with self.model.look(image) as photo:
                text = "".join(photo.ask(CRITIQUE_QUESTION)).strip() if critiques else ""
                found.append((float(photo.score().score), text))
        return found


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


def sharpness(image: Image.Image) -> float:
    """Return the variance of the Laplacian."""
    from scipy.ndimage import laplace

    return float(laplace(np.asarray(image.convert("L"), dtype=np.float64)).var())


def brightness_fit(image: Image.Image) -> float:
    """Return how near the mean brightness is to the middle."""
    return -abs(float(np.asarray(image.convert("L")).mean()) - 118.0)


def contrast(image: Image.Image) -> float:
    """Return the standard deviation of brightness."""
    return float(np.asarray(image.convert("L")).std())


BASELINES: dict[str, Callable[[Image.Image], float]] = {
    "variance of the Laplacian": sharpness, "mean brightness near the middle": brightness_fit, "contrast": contrast,
}  # fmt: skip


Picture = tuple[str, str, Image.Image]


def versions_of(clean: Image.Image, number: int, seed: int) -> Iterator[Picture]:
    """Yield (fault, level, picture): the original, then each fault at each level."""
    yield "", "", clean
    for f, fault in enumerate(faults.FAULTS):
        for level, strength in LEVELS.items():
            rng = np.random.default_rng((seed, number, f))
            yield fault, level, faults.spoil(clean, {fault: strength}, rng)


def judge_all(
    judge: Judge, sources: Sequence[photos.Photo], cache: Path, *, seed: int = 1, critiques: bool = True
) -> list[Row]:
    """Judge every photograph, its long side at 480 pixels, clean and spoilt."""
    rows = []
    for number, photo in enumerate(sources):
        pictures = list(versions_of(faults.fit(photos.load(cache, photo)), number, seed))
        judged = judge.judge([image for _, _, image in pictures], critiques=critiques)
        for (fault, level, image), (score, text) in zip(pictures, judged, strict=True):
            plain = {name: measure(image) for name, measure in BASELINES.items()}
            rows.append(Row(photo.name, photo.group, photo.package, fault, level, score, text, plain))
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


def summarise(rows: Sequence[Row]) -> dict[str, object]:
    """Turn judged pictures into figures with intervals."""

    def table(values: list[tuple[Row, float]]) -> dict[str, dict[str, float]]:
        found = {}
        for level in (*LEVELS, "all"):
            for fault in (*faults.FAULTS, "all"):
                use = [(v, r.group) for r, v in values if level in (r.level, "all") and fault in (r.fault, "all")]
                found[f"{fault}, {level}"] = interval(*zip(*use, strict=True))
        return found

    result: dict[str, object] = {"n_photos": len({r.photo for r in rows})}
    result["pairs"] = table(pairs(rows, lambda r: r.score))
    result["baselines"] = {
        name: {k: v for k, v in table(pairs(rows, _baseline(name))).items() if "all" in k} for name in BASELINES
    }
    if held_out := [r for r in rows if r.package in photos.HELD_OUT]:
        whole = table(pairs(held_out, lambda r: r.score))
        result["pairs of whole sources kept out"] = {k: v for k, v in whole.items() if k.startswith("all")}
    clean = [r for r in rows if not r.fault]
    result["score of clean photographs"] = interval([r.score for r in clean], [r.group for r in clean])
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
    return result


def _baseline(name: str) -> Callable[[Row], float]:
    return lambda row: row.baselines[name]


def print_summary(result: dict[str, object]) -> None:
    """Print every figure on a line of its own, shares in percent."""

    def show(name: str, figure: dict[str, float]) -> None:
        factor = 1 if "score" in name else 100
        low, high = figure["low"] * factor, figure["high"] * factor
        print(f"{name:58s} {figure['value'] * factor:5.1f}  [{low:5.1f}, {high:5.1f}]  n={figure['n']}")

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict) and "low" in value:
            show(prefix, value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix} | {key}" if prefix else key, inner)
        else:
            print(f"{prefix:58s} {value}")

    walk("", result)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder that training filled")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", type=Path, help="Hugging Face checkpoint folder, judged with PyTorch")
    which.add_argument("--bundle", help="bundle name or folder, judged with aesedge")
    parser.add_argument("--gguf", help="quantization type of the bundle's language model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    splits = ("test", "validation")
    parser.add_argument("--split", choices=splits, default="test", help="validation is for choosing between runs")
    parser.add_argument("--limit", type=int, default=0, help="stop after this many photographs")
    parser.add_argument("--no-critiques", action="store_true", help="scores only")
    options = parser.parse_args(arguments)
    if options.checkpoint:
        from .torch_judge import TorchJudge

        judge: Judge = TorchJudge(options.checkpoint)
    else:
        judge = BundleJudge(options.bundle, **({"gguf": options.gguf} if options.gguf else {}))
    sources = [p for p in photos.gather(options.cache) if p.split == options.split]
    sources = sources[: options.limit or len(sources)]
    rows = judge_all(judge, sources, options.cache, critiques=not options.no_critiques)
    result = summarise(rows)
    print_summary(result)
    options.out.write_text(json.dumps(result, indent=1), "utf-8")
    options.out.with_suffix(".rows.json").write_text(json.dumps([asdict(r) for r in rows], indent=0), "utf-8")


if __name__ == "__main__":
    main()
