"""Measure ``aesedge rate`` on a library: memory over thousands of photos, nothing new to do, a large catalogue, speed.

    python tests/measure/measure_library.py [--photos 20000] [--rows 100000] [--pairs 6] [--bundle pocket]

Photos are parts of the samples, turned, brightened and noisy by amounts that their number decides. ``--photos``: one
run over as many, its memory every hundredth; then the same command with nothing to do. ``--rows``: a catalogue of as
many, and how long one photo, a folder of a hundred and a new judgement take. ``--pairs``: 12 MP JPEGs through the
engine alone (``Model.score_many``) and through ``rate``, by turns. 0 leaves a part out. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure_photos import write_photos
from measure_soak import photo

from aesedge.bundle.bundle import open_bundle
from aesedge.cache import EmbeddingCache
from aesedge.config.options import Options
from aesedge.engine.model import Model
from aesedge.library.catalogue_writer import open_writer
from aesedge.library.judging import Judged
from aesedge.library.rating import Rater, RatingOptions
from aesedge.library.records import Content, FileState, Judgement
from aesedge.system.machine import process_bytes

SPEED_PHOTOS = 24


def write_library(folder: Path, n: int) -> None:
    """Write photos in folders of 500."""
    for i in range(n):
        path = folder / f"{i // 500:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(i).save(path, quality=88)


def many_photos(bundle: str, n: int) -> dict[str, Any]:
    """Judge many photos in one run; return the slope of its memory, and how long the next run takes."""
    with tempfile.TemporaryDirectory() as name:
        folder, catalogue = Path(name) / "photos", Path(name) / "x.aesedge"
        write_library(folder, n)
        curve, started = [], time.perf_counter()
        with (
            open_writer(catalogue) as file,
            Rater(open_bundle(bundle), Options(cache="0"), RatingOptions()) as rater,
        ):
            n_done = 0
            for event in rater.rate(file, [str(folder)]):
                n_done += isinstance(event, Judged)
                if isinstance(event, Judged) and n_done % max(1, n // 100) == 0:
                    curve.append((n_done, process_bytes()))
                    print(f"{n_done:7} photos {curve[-1][1] / 1e6:7.1f} MB", flush=True)
        took = time.perf_counter() - started
        later = np.array(curve[len(curve) // 4 :], np.float64)
        slope = float(np.polyfit(later[:, 0], later[:, 1], 1)[0]) if len(later) > 1 else float("nan")
        command = [
            sys.executable,
            "-m",
            "aesedge",
            "rate",
            "--bundle",
            bundle,
            "--catalogue",
            str(catalogue),
            str(folder),
        ]
        again = []
        for _ in range(3):
            started, cpu_started = time.perf_counter(), _children_cpu_s()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            again.append((_children_cpu_s() - cpu_started, time.perf_counter() - started))
        cpu_s, again_s = (min(values) for values in zip(*again, strict=True))
        print(done.stdout.strip())
        print(
            f"{n_done} photos, {n_done / took:.1f} a second; {slope:.0f} bytes a photo; again {again_s:.2f} s, "
            f"{cpu_s:.2f} s of processor time"
        )
        found = {"photos": n_done, "per_s": n_done / took, "slope_bytes": slope, "curve": curve}
        return {**found, "nothing_new_s": again_s, "nothing_new_cpu_s": cpu_s}


def _children_cpu_s() -> float:
    found = os.times()
    return found.children_user + found.children_system


def many_rows(n: int) -> dict[str, float]:
    """Return milliseconds that reading and writing take in a large catalogue."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name, open_writer(Path(name) / "x.aesedge") as file:
        settings = file.use_settings({"bundle": "measured"})
        result = {"attributes": {f"attribute {i}": {"score": 5.0, "rating": {"high": 0.5}} for i in range(5)}}
        with file.transaction():
            for i in range(n):
                content = file.add_content(rng.bytes(32), Content(thumbnail=bytes(768), taken_at=float(i)))
                path = f"/library/{i // 100:05}/{i:07}.jpg"
                file.add_file(path, FileState(i, i, i), content, tail=rng.bytes(32))
                file.add_judgement(content, settings, Judgement(5.0, result, rng.bytes(512)))

        def timed(work: Any) -> float:
            times = []
            for _ in range(20):
                started = time.perf_counter()
                work()
                times.append(time.perf_counter() - started)
            return 1000 * statistics.median(times)

        middle = f"/library/{n // 200:05}"
        found = {
            "one_photo_ms": timed(lambda: file.file(f"{middle}/{n // 2:07}.jpg", settings)),
            "folder_of_100_ms": timed(lambda: list(file.judgements(middle))),
            "new_judgement_ms": timed(
                lambda: file.add_judgement(
                    file.add_content(rng.bytes(32), Content()), settings, Judgement(5.0, result, rng.bytes(512))
                )
            ),
            "megabytes": (Path(name) / "x.aesedge").stat().st_size / 1e6,
        }
        print(", ".join(f"{key} {value:.2f}" for key, value in found.items()), f"({n} rows)")
        return found


def speed(bundle: str, n_pairs: int) -> dict[str, Any]:
    """Return photos a second of the engine alone and of ``rate``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        paths = write_photos(folder, SPEED_PHOTOS)
        took: dict[str, list[float]] = {"score": [], "rate": []}
        cpu: dict[str, list[float]] = {"score": [], "rate": []}
        with (
            Model(open_bundle(bundle), Options(cache="0", purpose="score")) as model,
            Rater(open_bundle(bundle), Options(cache="0"), RatingOptions()) as rater,
        ):
            for opened in (model, rater.open_model()):
                opened.internals.encoder.cache = EmbeddingCache(ram_bytes=0)
            for i in range(n_pairs):
                for way in ("score", "rate") if i % 2 else ("rate", "score"):
                    started, cpu_started = time.perf_counter(), time.process_time()
                    if way == "score":
                        n = sum(outcome.value is not None for outcome in model.score_many(paths))
                    else:
                        with open_writer(Path(name) / f"{i}.aesedge") as file:
                            n = sum(isinstance(event, Judged) for event in rater.rate(file, [str(folder)]))
                    took[way].append(time.perf_counter() - started)
                    cpu[way].append(time.process_time() - cpu_started)
                    if n != len(paths):
                        raise SystemExit(f"{way}: {n} of {len(paths)} photos")
        rates = {way: len(paths) / statistics.median(times) for way, times in took.items()}
        ratio = statistics.median(a / b for a, b in zip(took["score"], took["rate"], strict=True))
        cpu_ms = {way: 1000 * min(times) / len(paths) for way, times in cpu.items()}
        print(f"12 MP: score {rates['score']:.2f} a second, rate {rates['rate']:.2f}; median ratio {ratio:.3f}")
        print(f"processor time: score {cpu_ms['score']:.1f} ms a photo, rate {cpu_ms['rate']:.1f}")
        return {"score_per_s": rates["score"], "rate_per_s": rates["rate"], "ratio": ratio, "cpu_ms": cpu_ms}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--bundle", default="pocket")
    given = parser.parse_args()
    found: dict[str, Any] = {"cores": os.cpu_count()}
    if given.pairs:
        found["speed"] = speed(given.bundle, given.pairs)
    if given.rows:
        found["rows"] = many_rows(given.rows)
    if given.photos:
        found["library"] = many_photos(given.bundle, given.photos)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
