"""Put thousands of different photos through one process, as a kiosk does in a month, and compare with fresh ones.

    python tests/measure/measure_soak.py [--photos 2000] [--bundle pocket]

Every photo is scored and criticised (16 tokens) in one process; its memory after the first 200 photos and at the end is
compared. Then another process does each photo in a model of its own, opened for it alone with nothing kept, and every
answer is compared. Exit status 1 if memory grows by 20 KB a photo or more, or an answer differs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aesedge.engine.model import load_model
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import process_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

    from aesedge.engine.model import Model

WARM_UP = 200
LIMIT_BYTES = 20_000
SAME_SCORE = 0.005
"""Points of 10: where rows lie in the KV cache changes the last bits of llama.cpp's sums."""


@cache
def _sample(number: int) -> npt.NDArray[np.float32]:
    with Image.open(SAMPLE_PHOTOS[number]) as whole:
        return np.asarray(whole.convert("RGB"), np.float32)


@cache
def _noise() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((800, 800, 3), np.float32)


def photo(i: int) -> Image.Image:
    """Return the i-th photo: a part of a sample, turned, brightened and noisy by amounts that i decides."""
    random = np.random.default_rng(i)
    whole = _sample(i % len(SAMPLE_PHOTOS))
    side = int(random.integers(160, 400))
    y, x = (int(random.integers(0, n - side + 1)) for n in whole.shape[:2])
    top, left = random.integers(0, 400, 2)
    noise = _noise()[top : top + side, left : left + side] * np.float32(random.uniform(0, 30))
    noisy = whole[y : y + side, x : x + side] * np.float32(random.uniform(0.4, 1.4)) + noise
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).rotate(float(random.uniform(-10, 10)))


def answer(model: Model, i: int) -> tuple[float, str]:
    """Return score and the beginning of the critique of the i-th photo."""
    with model.look(photo(i)) as looked:
        return looked.score().score, looked.critique(max_tokens=16).text


def fresh(bundle: str, n: int) -> None:
    """Print each photo's answer by a model of its own."""
    for i in range(n):
        with tempfile.TemporaryDirectory() as folder, load_model(bundle, cache="0", cache_folder=Path(folder)) as model:
            print(json.dumps(answer(model, i)), flush=True)


def main() -> int:
    """Read the command line, run, compare."""
    parser = argparse.ArgumentParser(description="Many photos in one process.")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fresh:
        fresh(given.bundle, given.photos)
        return 0
    found, first_bytes, started = [], 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, load_model(given.bundle, cache_folder=Path(folder)) as model:
        for i in range(given.photos):
            found.append(answer(model, i))
            if i + 1 == min(WARM_UP, given.photos // 2):
                first_bytes = process_bytes()
        last_bytes, n_more = process_bytes(), given.photos - min(WARM_UP, given.photos // 2)
    took = time.perf_counter() - started
    growth = (last_bytes - first_bytes) / n_more
    command = [sys.executable, __file__, "--fresh", "--photos", str(given.photos), "--bundle", given.bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    alone = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    n_texts = sum(a[1] == b[1] for a, b in zip(found, alone, strict=True))
    drift = max(abs(a[0] - b[0]) for a, b in zip(found, alone, strict=True))
    print(
        f"{given.photos} photos, {given.photos / took:.1f} a second; {len({text for _, text in found})} different texts"
    )
    print(f"memory: {growth / 1000:.2f} KB a photo after the first {given.photos - n_more} ({last_bytes / 1e6:.0f} MB)")
    print(f"as in fresh models: {n_texts} of {len(found)} texts; scores differ by {drift:.6f} of 10 at most")
    print(json.dumps({"photos": given.photos, "growth_bytes": growth, "equal_texts": n_texts, "score_drift": drift}))
    return 0 if growth < LIMIT_BYTES and n_texts == len(found) and drift <= SAME_SCORE else 1


if __name__ == "__main__":
    raise SystemExit(main())
