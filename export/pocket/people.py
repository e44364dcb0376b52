"""How far a bundle's scores agree with people: on photographs that they rated and that training never saw.

    python -m aesedge_export.pocket.people --clive DIR --bundle pocket [--gguf TYPE] [--vision TYPE] --out FILE.json

Of the photographs in the folder only those kept for tests are looked at (opinions.py), or with --all every one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .evaluators import BASELINES, add_brisque
from .faults import fit
from .opinions import read_opinions
from .train_tower import rank_correlation

if TYPE_CHECKING:
    from collections.abc import Sequence

N_DRAWS = 2000
GOOD_FROM = 5.0
YES_NO = {
    "": ("Is this a good photo?", True),
    "sharpness": ("Is this photo sharp?", True),
    "noise": ("Is this photo grainy?", False),
    "exposure": ("Is this photo well exposed?", True),
    "contrast": ("Is this photo flat?", False),
    "color": ("Are the colors of this photo natural?", True),
}
"""Attribute, or nothing for the whole, to a question and whether yes means that it is good."""


def correlation(scores: Sequence[float], opinions: Sequence[float], *, seed: int = 0) -> dict[str, float]:
    """Return the rank correlation with its 95 % interval, from drawing photographs anew."""
    a, b = np.array(scores), np.array(opinions)
    rng = np.random.default_rng(seed)
    draws = [rank_correlation(a[k], b[k]) for k in rng.integers(len(a), size=(N_DRAWS, len(a)))]
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"value": rank_correlation(a, b), "low": float(low), "high": float(high), "n": len(a)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clive", type=Path, required=True, help="LIVE In the Wild: a folder of images and mos.csv")
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--gguf", help="type of the bundle's language model")
    parser.add_argument("--vision", help="precision of the bundle's vision graph")
    parser.add_argument("--all", action="store_true", help="look at every photograph of the folder")
    parser.add_argument("--brisque", action="store_true", help="also rank with the package brisque")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.brisque:
        add_brisque()
    import aesedge

    chosen = {name: value for name in ("gguf", "vision") if (value := getattr(options, name))}
    rated = [r for r in read_opinions(options.clive) if r.is_test or options.all]
    found: dict[str, list[float]] = {}
    plain: dict[str, list[float]] = {}
    agree: list[float] = []
    with aesedge.load_model(options.bundle, **chosen) as model:
        for r in rated:
            with model.look(r.path) as photo:
                score, attributes = photo.score_and_attributes()
                values = {"score": score.score, **{name: a.score for name, a in attributes.items()}}
                for about, (question, yes_is_good) in YES_NO.items():
                    said = photo.ask(question).text.startswith("Yes")
                    agree.append(float((values[about or "score"] >= GOOD_FROM) == (said == yes_is_good)))
            with Image.open(r.path) as image:
                small = fit(image.convert("RGB"))
            measured = {name: measure(small) for name, measure in BASELINES.items()}
            for table, row in ((found, values), (plain, measured)):
                for name, value in row.items():
                    table.setdefault(name, []).append(value)
    opinions = [r.opinion for r in rated]
    result = {
        "rank correlation with people": {name: correlation(values, opinions) for name, values in found.items()},
        "plain measures": {name: correlation(values, opinions) for name, values in plain.items()},
        "Pearson": float(np.corrcoef(found["score"], opinions)[0, 1]),
        "mean distance, points": float(np.abs(np.array(found["score"]) - 10 * np.array(opinions)).mean()),
        "yes/no that agree with the scores": float(np.mean(agree)),
    }
    print(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()
