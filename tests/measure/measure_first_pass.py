"""Measure what ``aesedge rate --first-pass`` loses and saves, on photographs of yours.

    python tests/measure/measure_first_pass.py FOLDER [--share 20%] [--bundle pocket] [--keep FOLDER]

The folder is rated twice: by the language model alone, and with the first pass. How many of the best tenth by the first
have been judged by the model in the second, how many photos it judged there, and how often the interval of an estimate
held the score. ``--keep`` keeps the two catalogues, so that a run that was stopped goes on. The last line is JSON.
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

from aesedge.library.catalogue import open_catalogue
from aesedge.library.ridge import rank_correlation

if TYPE_CHECKING:
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


def main() -> None:
    """Read the command line, rate twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", default="20%")
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
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
