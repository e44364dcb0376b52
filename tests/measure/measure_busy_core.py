"""Measure what one busy core costs: aesedge's way to wait for threads beside llama.cpp's own, idle and busy, in turns.

    python tests/measure/measure_busy_core.py BUNDLE [--image-tokens 144] [--runs 3]
        [--tokens 8] [--restarts 1] [--no-busy] [--also NAME=VALUE ...]

Every way has a process of its own with the same bundle, engine and settings, since the libraries read it when they are
loaded. ``aesedge`` is what users get. ``defaults`` leaves threads to spin as they do in llama.cpp and ONNX Runtime.
``--also`` adds ways of aesedge with a variable of the environment set (GOMP_SPINCOUNT=1000, OMP_WAIT_POLICY=passive).

A turn is the score of a photo that nobody has seen, and tokens decoded one by one. First on the machine as it is, then
beside a process of this script that computes without end, in a session of its own as another program has. Medians,
each way's busy median over its own idle one, and the median of its idle turns over those of the defaults in the same
round. Where a process's memory lies changes its speed by some percent for as long as it lives: ``--restarts`` opens all
ways anew that many times.

Excluded: loading, and a first turn of each to warm up. Turns in which programs that this script did not start took more
than a tenth of a core (``--others``) are left out and repeated, until three times as many were taken as are wanted; how
many is printed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from measure_speed import engine_seconds, new_photos, ours

from aesedge.engine.model import load_model
from aesedge.system.load import busy_seconds
from aesedge.system.openmp_waiting import openmp_waiting
from aesedge.vision import tower

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "defaults"
FIGURES = ("vision_s", "prefill_s", "total_s", "decode_s")


def work(bundle: str, n_image_tokens: int, n_tokens: int) -> None:
    """Take a turn for every line of stdin."""
    if os.environ.get("AESEDGE_MEASURED") == DEFAULT:
        openmp_waiting.enabled = False
        tower.ALLOW_SPINNING = "1"
    options: dict[str, Any] = {"image_tokens": n_image_tokens, "cache": "0", "purpose": "score"}
    with tempfile.TemporaryDirectory() as folder, load_model(bundle, **options) as model:
        photos = new_photos(Path(folder))
        print(json.dumps({"waiting": str(openmp_waiting), "plan": str(model.internals.plan)}), flush=True)
        for _ in sys.stdin:
            turn = ours(model, next(photos), n_image_tokens) | {"decode_s": engine_seconds(model, 0, n_tokens)}
            print(json.dumps(turn), flush=True)


class Way:
    """A process that takes turns."""

    def __init__(self, name: str, arguments: list[str], **changes: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments, "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AESEDGE_MEASURED": name, **changes},
        )
        self.opened = self._read()

    def turn(self) -> dict[str, float]:
        """Return the seconds of a turn."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with code {self.process.wait()}")
        return json.loads(line)


@contextlib.contextmanager
def busy_core() -> Iterator[subprocess.Popen[bytes]]:
    """Keep one core busy, for as long as this process lives at most."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        time.sleep(1)
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_seconds(known: list[int]) -> tuple[float, float]:
    """Return the processor time that was used since the machine started, and by the known processes."""
    return busy_seconds(psutil.cpu_times()), sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in known)


Rows = dict[str, list[dict[str, float]]]
"""Name of a way to the seconds of its turns."""


def measure(ways: list[Way], runs: int, known: list[int], most_by_others: float, rows: Rows) -> int:
    """Take turns and add them to the rows; return how many were left out."""
    n_left_out = 0
    n_taken = dict.fromkeys((way.name for way in ways), 0)
    for _ in range(3 * runs):
        for way in ways:
            if n_taken[way.name] >= runs:
                continue
            (all_before, known_before), began = cpu_seconds(known), time.monotonic()
            turn = way.turn()
            (all_after, known_after), took = cpu_seconds(known), time.monotonic() - began
            by_others = (all_after - all_before - (known_after - known_before)) / took
            if by_others > most_by_others:
                n_left_out += 1
                print(f"left out: {way.name}, others took {by_others:.2f} of a core", file=sys.stderr)
            else:
                n_taken[way.name] += 1
                rows.setdefault(way.name, []).append(turn)
    return n_left_out


def medians(rows: Rows, ways: list[str]) -> dict[str, dict[str, float]]:
    """Return the medians of each way."""
    missing = [name for name in ways if name not in rows]
    if missing:
        raise SystemExit(f"no undisturbed turn of {', '.join(missing)}: other programs are at work on this machine")
    return {name: {f: statistics.median(r[f] for r in rows[name]) for f in FIGURES} for name in ways}


def show(idle: dict[str, dict[str, float]], busy: dict[str, dict[str, float]] | None, turns: Rows) -> None:
    """Print the medians, idle turns over those of the defaults, busy medians over the way's own idle ones."""
    print(f"{'':24}{'':6}{'vision':>9}{'prefill':>9}{'photo':>9}{'decode':>9}")
    for name, of_idle in idle.items():
        print(f"{name:24}{'idle':6}" + "".join(f"{of_idle[f]:9.2f}" for f in FIGURES))
        if name != DEFAULT:
            pairs = list(zip(turns[name], turns[DEFAULT], strict=False))
            ratios = "".join(f"{statistics.median(a[f] / b[f] for a, b in pairs):9.2f}" for f in FIGURES)
            print(f"{'':14}over defaults   {ratios}")
        if busy is not None:
            print(f"{'':24}{'busy':6}" + "".join(f"{busy[name][f]:9.2f}" for f in FIGURES))
            print(f"{'':17}over idle    " + "".join(f"{busy[name][f] / of_idle[f]:9.2f}" for f in FIGURES))


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--image-tokens", type=int, default=144)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--others", type=float, default=0.1, help="of a core, what other programs may take")
    parser.add_argument("--no-busy", action="store_true", help="only what a way costs an idle machine")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.bundle, given.image_tokens, given.tokens)
        return
    arguments = [given.bundle, "--image-tokens", str(given.image_tokens), "--tokens", str(given.tokens)]
    idle: Rows = {}
    busy: Rows = {}
    n_left_out = 0
    for restart in range(given.restarts):
        ways = [Way("aesedge", arguments), Way(DEFAULT, arguments)]
        ways += [Way(also, arguments, **dict([also.split("=", 1)])) for also in given.also]
        names = [way.name for way in ways]
        try:
            if not restart:
                print(ways[0].opened["plan"])
                for way in ways:
                    print(f"{way.name}: {way.opened['waiting']}", flush=True)
            for way in ways:
                way.turn()
            known = [os.getpid(), *(way.process.pid for way in ways)]
            n_left_out += measure(ways, given.runs, known, given.others, idle)
            if not given.no_busy:
                with busy_core() as process:
                    n_left_out += measure(ways, given.runs, [*known, process.pid], given.others, busy)
        finally:
            for way in ways:
                way.process.kill()
                way.process.wait()
    of_idle = medians(idle, names)
    of_busy = None if given.no_busy else medians(busy, names)
    show(of_idle, of_busy, idle)
    print(
        f"seconds, medians of {given.runs} x {given.restarts}; photo with {given.image_tokens} image tokens, "
        f"{given.tokens} tokens decoded\nleft out because of other programs: {n_left_out} turns"
    )
    print(json.dumps({"idle": of_idle, "busy": of_busy, "left_out": n_left_out, "turns": {"idle": idle, "busy": busy}}))


if __name__ == "__main__":
    main()
