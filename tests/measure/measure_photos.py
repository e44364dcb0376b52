"""Measure how many photos a second are scored, from JPEG files of a camera's size.

    python tests/measure/measure_photos.py [--bundle pocket] [--photos 200] [--image-tokens N]

The photos are the samples, enlarged to 4000 x 3000 with a camera's noise and stored with quality 90. Not in the time:
making them, and loading the bundle. All score questions are asked; no text is written. The cache on disk is off.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from aesedge.engine.model import load_model
from aesedge.engine.results import PhotoResult
from aesedge.samples import SAMPLE_PHOTOS

SIZE = (4000, 3000)
MARGIN = 40


def write_photos(folder: Path, n: int) -> list[Path]:
    """Write photos that differ in every pixel."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 4, (SIZE[1], SIZE[0], 3)).astype(np.int16)
    pictures = [Image.open(path).convert("RGB") for path in SAMPLE_PHOTOS]
    paths = []
    for i in range(n):
        picture = pictures[i % len(pictures)]
        left, top = (int(rng.integers(MARGIN)) for _ in range(2))
        box = (left, top, left + picture.width - MARGIN, top + picture.height - MARGIN)
        pixels = np.asarray(picture.crop(box).resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
        pixels += np.roll(noise, 37 * i, axis=1)
        paths.append(folder / f"{i:04}.jpg")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--image-tokens", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), given.photos)
        with load_model(given.bundle, image_tokens=given.image_tokens, cache="0", purpose="score") as model:
            started = time.perf_counter()
            outcomes = [o.error or o.value for o in model.score_many(paths)]
            took = time.perf_counter() - started
    found = [outcome.timings for outcome in outcomes if isinstance(outcome, PhotoResult)]
    parts = {
        name: statistics.median(getattr(timings, name) for timings in found)
        for name in ("decode_image_s", "vision_s", "prefill_s")
    }
    n_prompt = statistics.mean(timings.n_prompt for timings in found)
    each = ", ".join(f"{name[:-2].replace('_', ' ')} {seconds * 1000:.0f} ms" for name, seconds in parts.items())
    print(f"{len(found)} of {len(paths)} photos in {took:.1f} s: {len(found) / took:.2f} a second")
    print(f"medians: {each}, {n_prompt:.0f} prompt positions")


if __name__ == "__main__":
    main()
