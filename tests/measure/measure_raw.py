"""Measure reading a 24 MP camera RAW: by the camera's preview in it, and developed, for a vision tower of 384 pixels.

    python tests/measure/measure_raw.py [--repeat 5]

The RAW is a DNG made here, with noise in every pixel; its previews are a sample photo with noise, JPEG quality 90, as
large as the RAW and as 1616 x 1080. "half" develops at half size, as RAWs without a preview are; "full" demosaics.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from image_files import dng, encoded, mosaic_of

from aesedge.image import read_image, seen_of
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Callable

TOWER = 384
SIZE = (6000, 4000)


def preview(size: tuple[int, int]) -> bytes:
    """Return a camera's JPEG of this size."""
    with Image.open(SAMPLE_PHOTOS[0]) as photo:
        pixels = np.asarray(photo.convert("RGB").resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    pixels += np.random.default_rng(0).normal(0, 4, pixels.shape).astype(np.int16)
    return encoded(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), "JPEG", quality=90)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    mosaic = mosaic_of((1000, 2000, 800), *SIZE)
    mosaic += np.random.default_rng(0).integers(0, 200, mosaic.shape, np.uint16)
    plain = dng(mosaic)
    large, small = (dng(mosaic, preview=(preview(size), size)) for size in (SIZE, (1616, 1080)))

    def timed(work: Callable[[], Image.Image], seen: str) -> float:
        times = []
        for _ in range(given.repeat):
            started = time.perf_counter()
            image = work()
            times.append(time.perf_counter() - started)
            if seen_of(image) != seen:
                raise SystemExit(f"{seen_of(image)} was seen, not the {seen}")
        return 1000 * statistics.median(times)

    found = {
        "preview_6000_ms": timed(lambda: read_image(large, size_hint=TOWER), "preview"),
        "preview_1616_ms": timed(lambda: read_image(small, size_hint=TOWER), "preview"),
        "half_ms": timed(lambda: read_image(plain, size_hint=TOWER), "photo"),
        "full_ms": timed(lambda: read_image(plain), "photo"),
    }
    print(", ".join(f"{name.removesuffix('_ms')} {ms:.0f} ms" for name, ms in found.items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
