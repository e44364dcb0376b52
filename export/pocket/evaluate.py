"""Measure pocket on test photographs: pairs ranked rightly, faults named, false alarms, answers, calibration.

    python -m aesedge_export.pocket.evaluate --cache DIR --bundle pocket --out FILE.json
    python -m aesedge_export.pocket.evaluate --cache DIR --bundle FOLDER --gguf f16,q8_0 --vision fp32,int8 --out ..

With several settings, each is measured, and compared with the first picture by picture. It knows photographs, faults
and a judge (evaluators.py); it does not know how the judge works inside.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import faults, photos
from .evaluators import BASELINES, BundleEvaluator, Evaluator, add_brisque
from .figures import LADDER, LEVELS, Row, changes, print_headline, print_summary, summarise
from .judgement import LEAST, MOST, Judgement
from .questions import YES_NO
from .talk import Partner
from .well_formed import check_texts, print_texts, shares, with_spoilt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

SEED = 1
"""Of the faults."""
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
        if len(about) == 1 and fault in ("", *about):
            wording = question.replace("{it}", "this photo")
            found.append(("yes/no", wording, "Yes" if (fault != "") == when_there else "No"))
    margins = {f: MOST if f == fault else LEAST for f in faults.FAULTS}
    question, answer = Partner(Judgement(0.5, margins), rng).choice()
    return [*found, ("multiple choice", question, answer[:1])]


def ask(judge: Evaluator, image: Image.Image, fault: str, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return which questions were answered rightly."""
    asked = questions_about(fault, rng)
    right = defaultdict(list)
    answers = judge.answers_about(image, [question for _, question, _ in asked])
    for (kind, _, beginning), answer in zip(asked, answers, strict=True):
        right[kind].append(float(answer.lstrip("(").startswith(beginning)))  # "(A) Noise"
    return dict(right)


def judge_all(
    judge: Evaluator,
    sources: Sequence[photos.Photo],
    cache: Path,
    *,
    critiques: bool = True,
    ladder: bool = False,
    questions: bool = False,
    baselines: bool = True,
    which: Sequence[str] = faults.FAULTS,
) -> list[Row]:
    """Evaluate every photograph, its long side at 480 pixels, clean and spoilt.

    Args:
        judge: scores, writes and answers.
        sources: the photographs.
        cache: where they lie.
        critiques: whether critiques are written too.
        ladder: whether more strengths are scored.
        questions: whether questions are asked of clean and of strongly spoilt pictures.
        baselines: whether plain measures look at the pictures too.
        which: faults; the first ones of faults.FAULTS, so that each is made with the same seed.
    """
    rows: list[Row] = []
    for number, photo in enumerate(sources):
        clean = faults.fit(photos.load(cache, photo))
        pictures = list(versions_of(clean, number, SEED, which=which))
        judged = judge.judge([image for _, _, image in pictures], critiques=critiques)
        for (fault, level, image), said in zip(pictures, judged, strict=True):
            plain = {name: measure(image) for name, measure in BASELINES.items()} if baselines else {}
            # Seeded by photograph and fault: with fewer faults, or other levels, the questions are the same.
            rng = np.random.default_rng((SEED, number, [*faults.FAULTS, ""].index(fault)))
            right = ask(judge, image, fault, rng) if questions and level in ("", "strong") else {}
            source = (photo.name, photo.group, photo.package)
            rows.append(Row(*source, fault, level, said.score, said.critique, plain, right, said.attributes))
        if ladder:
            _, *more = versions_of(clean, number, SEED, LADDER, which)
            judged = judge.judge([image for _, _, image in more], critiques=False)
            for (fault, level, _), said in zip(more, judged, strict=True):
                row = Row(*source, fault, level, said.score, "", {}, attributes=said.attributes)
                rows.append(row)
        print(f"judged photograph {number + 1} of {len(sources)}", flush=True)
    return rows


def judge_of(options: argparse.Namespace, gguf: str, vision: str, tokens: str) -> tuple[str, Evaluator]:
    """Return the name of a setting and its judge."""
    chosen = {"gguf": gguf, "vision": vision, "image_tokens": int(tokens) if tokens else None}
    given = {name: value for name, value in chosen.items() if value}
    return " ".join(str(value) for value in given.values()) or options.bundle, BundleEvaluator(options.bundle, **given)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that training filled")
    parser.add_argument("--bundle", required=True, help="bundle name or folder")
    parser.add_argument("--gguf", default="", help="types of the bundle's language model, separated by commas")
    parser.add_argument("--vision", default="", help="precisions of the vision graph, separated by commas")
    parser.add_argument("--tokens", default="", help="numbers of image tokens, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    splits = ("test", "validation")
    parser.add_argument("--split", choices=splits, default="test", help="validation is for choosing between runs")
    parser.add_argument("--limit", type=int, default=0, help="stop after this many photographs")
    parser.add_argument(
        "--texts", type=int, help="photographs on which the form of every text is checked, all if not given"
    )
    parser.add_argument("--no-critiques", action="store_true", help="scores only")
    parser.add_argument("--main-faults", action="store_true", help="only the faults of the goals")
    parser.add_argument("--brisque", action="store_true", help="also rank with the package brisque")
    options = parser.parse_args(arguments)
    if options.brisque:
        add_brisque()
    sources = [p for p in photos.gather(options.cache) if p.split == options.split]
    sources = sources[: options.limit or len(sources)]
    more = not options.no_critiques
    found: dict[str, dict[str, object]] = {}
    first: list[Row] = []
    for setting in product(options.gguf.split(","), options.vision.split(","), options.tokens.split(",")):
        name, judge = judge_of(options, *setting)
        print(f"== {name}", flush=True)
        rows = judge_all(
            judge,
            sources,
            options.cache,
            critiques=more,
            ladder=True,
            questions=more,
            baselines=not found,
            which=faults.MAIN_FAULTS if options.main_faults else faults.FAULTS,
        )
        result = summarise(rows)
        if more and isinstance(judge, BundleEvaluator):
            texts = check_texts(
                judge.model, with_spoilt((p.name, photos.load(options.cache, p)) for p in sources[: options.texts])
            )
            print_texts(texts)
            result["well formed texts"] = shares(texts)
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
