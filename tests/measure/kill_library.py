"""Kill ``aesedge rate`` at random moments, and look whether anything that was reported is lost or judged twice.

    python tests/measure/kill_library.py [--kills 1000] [--photos 400] [--bundle pocket] [--seed 0]

Each run judges on; it is killed (SIGKILL) at a random moment after it has printed its first photo, every fifth one
already while the catalogue is opened or the model is loaded. What it printed must be in the catalogue with the same
score, no photo may ever be printed twice, and SQLite must find the file sound. When all photos are judged, a new
catalogue begins. Exit status 1 on any fault; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from measure_library import write_library

from aesedge.library.catalogue import open_catalogue

SAME_SCORE = 1e-5
EARLY, MOST_S = 0.2, 1.5


class Catalogues:
    """The catalogue in use, and what was reported for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.n = 0
        self.new()

    def new(self) -> None:
        """Begin a new one."""
        self.path = self._folder / f"{self.n}.aesedge"
        self.n += 1
        self.reported: dict[str, float] = {}

    def check(self, lines: list[str]) -> tuple[int, int]:
        """Return how many of the photos that a run reported are lost, and how many it reported again."""
        n_twice = 0
        for line in lines:
            found = json.loads(line)
            n_twice += found["photo"] in self.reported
            self.reported[found["photo"]] = found["score"]
        if not self.path.exists():
            return len(self.reported), n_twice
        with closing(sqlite3.connect(self.path)) as connection:
            (is_sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        if is_sound != "ok":
            raise SystemExit(f"{self.path}: {is_sound}")
        with open_catalogue(self.path) as catalogue:
            known = {photo.path: photo.score for photo in catalogue.judgements()}
        n_lost = sum(abs(known.get(path, -1) - score) > SAME_SCORE for path, score in self.reported.items())
        return n_lost, n_twice


def main() -> int:
    """Read the command line, kill, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    n_lost = n_twice = n_reported = n_killed = 0
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        write_library(photos, given.photos)
        catalogues = Catalogues(Path(name))
        while n_killed < given.kills:
            command = [sys.executable, "-m", "aesedge", "rate", "--json", "--quiet", "--bundle", given.bundle]
            command += ["--cache-size", "0", "--catalogue", str(catalogues.path), str(photos)]
            printed, is_early = Path(name) / "printed", rng.random() < EARLY
            with printed.open("wb") as file, subprocess.Popen(command, stdout=file) as running:
                while running.poll() is None and not (catalogues.path.exists() if is_early else printed.stat().st_size):
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, MOST_S))
                is_killed = running.poll() is None
                running.kill()
            out = printed.read_text(encoding="utf-8")
            lines = out.splitlines() if out.endswith("\n") else out.splitlines()[:-1]  # half a line reports nothing
            lost, twice = catalogues.check(lines)
            n_lost, n_twice, n_reported = n_lost + lost, n_twice + twice, n_reported + len(lines)
            n_killed += is_killed
            if n_killed % 50 == 0 and is_killed:
                print(f"{n_killed} killed, {n_reported} photos reported, {n_lost} lost, {n_twice} twice", flush=True)
            if len(catalogues.reported) >= given.photos or not is_killed:
                catalogues.new()
    print(json.dumps({"kills": n_killed, "reported": n_reported, "lost": n_lost, "twice": n_twice}))
    return 0 if not n_lost and not n_twice else 1


if __name__ == "__main__":
    raise SystemExit(main())
