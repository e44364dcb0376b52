"""Measure what ``aesedge rate --first-pass`` loses and saves, on photographs of yours.

    python tests/measure/measure_first_pass.py FOLDER [--share 20%] [--bundle pocket] [--keep FOLDER]
    python tests/measure/measure_first_pass.py FOLDER --parts 4 [--bundle llava-1.5-7b]

The folder is rated twice: by the language model alone, and with the first pass. How many of the best tenth by the first
have been judged by the model in the second, how many photos it judged there, and how often the interval of an estimate
held the score. ``--keep`` keeps the two catalogues, so that a run that was stopped goes on.

``--parts`` measures instead what tower and language model cost for as many photos, in processor time, and what the
first pass gains by that, for models too large to rate hundreds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aesedge.bundle.bundle import open_bundle
from aesedge.config.options import Options
from aesedge.engine.batch import score_encoded
from aesedge.engine.model import Model
from aesedge.image.find_photos import photos_in
from aesedge.library.catalogue import open_catalogue
from aesedge.library.examination import examine
from aesedge.library.finding import PhotoFile, Picture, state_of
from aesedge.library.ridge import rank_correlation

if TYPE_CHECKING:
    from aesedge.library.examination import Examined
    from aesedge.library.records import JudgedPhoto


def rated(folder: Path, catalogue: Path, bundle: str, *options: str) -> tuple[dict[str, JudgedPhoto], float]:
    """Rate a folder; return its photos by key, and how long it took."""
    started = time.perf_counter()
    settings = ("--bundle", bundle, "--cache-size", "0", "--catalogue", str(catalogue))
    command = [sys.executable, "-m", "aesedge", "rate", *settings, *options, str(folder)]
    subprocess.run(command, check=False)
    took = time.perf_counter() - started
    with open_catalogue(catalogue) as file:
        return {photo.key: photo for photo in file.judgements(folder)}, took


def parts(folder: Path, bundle: str, n: int) -> dict[str, float]:
    """Return seconds of processor time that a photo takes in the tower, and in the language model."""
    with Model(open_bundle(bundle), Options(cache="0", purpose="score")) as model:
        internals = model.internals
        paths = [str(path) for path in photos_in(folder)][: n + 1]
        photos = [examine(Picture(PhotoFile(path, state_of(path))), internals.manifest.image) for path in paths]

        def run(some: list[Examined]) -> tuple[float, float]:
            began = time.process_time()
            n_tokens = internals.plan.n_image_tokens
            rows = internals.encoder.encode_prepared([photo.prepared for photo in some], n_tokens)
            encoded = time.process_time()
            scored = list(score_encoded(internals, zip(some, rows, strict=True), attributes=True))
            if any(error for _, _, error in scored):
                raise SystemExit(str(scored))
            return encoded - began, time.process_time() - encoded

        run(photos[:1])  # reads the weights
        tower_s, language_s = (total / n for total in run(photos[1:]))
    print(f"tower {tower_s:.2f} s of processor time a photo, language model {language_s:.2f} s")
    gains = {share: (tower_s + language_s) / (tower_s + share * language_s) for share in (0.2, 0.25, 0.3)}
    for share, gain in gains.items():
        print(f"  where the model judges {share:.0%} of the photos, they take 1/{gain:.2f} of the time")
    return {"tower_s": tower_s, "language_s": language_s, **{f"gain_{share}": gain for share, gain in gains.items()}}


def main() -> None:
    """Read the command line, rate twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", default="20%")
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--parts", type=int, default=0, help="photos whose cost in each part is measured")
    given = parser.parse_args()
    if given.parts:
        print(json.dumps(parts(given.folder, given.bundle, given.parts)))
        return
    with tempfile.TemporaryDirectory() as name:
        kept = given.keep or Path(name)
        kept.mkdir(parents=True, exist_ok=True)
        all_, all_s = rated(given.folder, kept / "all.aesedge", given.bundle)
        found, found_s = rated(given.folder, kept / "first-pass.aesedge", given.bundle, "--first-pass", given.share)
    best = sorted(all_, key=lambda key: -all_[key].score)[: round(len(all_) / 10)]
    judged = {key for key, photo in found.items() if photo.score_from == "model"}
    estimated = [key for key in found if key not in judged]
    covered = [(found[key].low or 0) <= all_[key].score <= (found[key].high or 10) for key in estimated]
    result = {
        "photos": len(all_),
        "best_kept": len(judged.intersection(best)) / max(1, len(best)),
        "judged": len(judged) / max(1, len(found)),
        "correlation": rank_correlation(*(np.array([one[key].score for key in estimated]) for one in (all_, found))),
        "covered": sum(covered) / max(1, len(covered)),
        "seconds": [all_s, found_s],
    }
    print(
        f"{len(all_)} photos: {result['best_kept']:.1%} of the best tenth are judged by the model, which judged "
        f"{result['judged']:.1%}; intervals hold {result['covered']:.1%} of the others"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
