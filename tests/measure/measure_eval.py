"""Measure how many photos a second `aesedge eval ratings` and `aesedge score` do, as users start them, in turns.

    python tests/measure/measure_eval.py TABLE --images DIR [--bundle pocket] [--rounds 3]

Included: starting Python, loading the bundle, statistics with all intervals. The caches on disk are off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aesedge.eval.ratings_table import read_ratings


def timed(*arguments: str) -> float:
    """Run a command of aesedge; return its seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "aesedge", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--photos", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    photos = read_ratings(given.table, images=given.images).photos[: given.photos]
    common = ["--bundle", given.bundle, "--cache-size", "0", "--quiet"]
    ratios, rates = [], []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "ratings.csv"
        rows = [f"{photo.path.resolve()},{10 * photo.opinion}\n" for photo in photos]
        table.write_text("file,mos\n" + "".join(rows), encoding="utf-8")
        paths = [str(photo.path) for photo in photos]
        for n in range(given.rounds):
            turns = {"score": ["score", *paths], "eval": ["eval", "ratings", str(table), "--out", f"{folder}/{n}"]}
            order = list(turns) if n % 2 == 0 else list(turns)[::-1]
            took = {name: timed(*turns[name], *common) for name in order}
            ratios.append(took["score"] / took["eval"])
            rates.append(len(photos) / took["eval"])
            print(f"score {took['score']:.1f} s, eval ratings {took['eval']:.1f} s: {ratios[-1]:.3f}", flush=True)
    load = os.getloadavg()[0]
    print(
        f"{len(photos)} photos: eval ratings at {statistics.median(ratios):.2f} times the photos a second of score, "
        f"{statistics.median(rates):.1f} a second (medians of {given.rounds} pairs; load {load:.1f})"
    )


if __name__ == "__main__":
    main()
