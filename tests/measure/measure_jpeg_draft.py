"""Measure what decoding JPEGs at reduced scale gains and changes: ``measure_jpeg_draft.py [JPEG...]``.

Without arguments: scikit-image's photographs as they are (sharp to the pixel) and enlarged with new sensor noise to 12
and 24 MP, in even and odd sizes, stored with 4:2:0 chroma.

Speed: bytes in memory to pixel values, full decode and reduced decode in turns, so that both see the same machine; the
ratio of the medians. Left out: reading from disk, the process's start, the model, photos that stay at full scale.
Difference: levels of 255 of the tower's square, reduced against full decode, at two towers: the one of LLaVA (336) and
the largest for which the photo is reduced at all at each scale, where the difference is greatest.
The last line is JSON.
"""

from __future__ import annotations

import io
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from PIL import Image, features

from aesedge.image import OVERSAMPLING, preprocess, read_image
from aesedge.image.image_spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

TOWER = 336
PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png"]
LONG_SIDES = (4032, 4001, 6000, 6003)
N_TURNS = 5


def levels_spec(size: int) -> ImageSpec:
    """Return a spec whose pixel values are levels of 255."""
    return ImageSpec(size=size, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), pad_color=(122, 116, 104))


def difference(data: bytes, tower: int) -> tuple[float, float]:
    """Return the greatest and the mean difference in levels between reduced and full decode."""
    spec = levels_spec(tower)
    apart = np.abs(preprocess(read_image(data, size_hint=tower), spec) - preprocess(read_image(data), spec))
    return float(apart.max()), float(apart.mean())


def worst_towers(data: bytes) -> list[int]:
    """Return, for each scale, the largest tower for which a JPEG is still decoded at it."""
    with Image.open(io.BytesIO(data)) as image:
        return [size for scale in (2, 4, 8) if (size := max(image.size) // scale // OVERSAMPLING) >= 28]


def seconds(data: bytes, tower: int) -> tuple[list[float], list[float]]:
    """Return the times of full and of reduced decode, preprocessing included, taken in turns."""
    spec, times = levels_spec(tower), ([], [])
    for turn in range(N_TURNS + 1):
        for hint, taken in zip((None, tower), times, strict=True):
            started = time.perf_counter()
            preprocess(read_image(data, size_hint=hint), spec)
            if turn > 0:  # the first turn warms up
                taken.append(time.perf_counter() - started)
    return times


def as_jpeg(image: Image.Image, long_side: int | None) -> bytes:
    """Store a photo; enlarged, it gets the noise of a sensor, or it would hold no detail of its own size."""
    if long_side is not None:
        scale = long_side / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        large = np.asarray(image.resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
        noise = np.random.default_rng(0).normal(0, 6, (*large.shape[:2], 1))
        image = Image.fromarray((large + noise).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


def photos(paths: list[str]) -> Iterator[tuple[str, bytes]]:
    """Give names and JPEG bytes of what is measured."""
    for path in paths:
        yield path, Path(path).read_bytes()
    if paths:
        return
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name in PHOTOS:
        with Image.open(folder / name) as opened:
            image = opened.convert("RGB")
        for long_side in (None, *LONG_SIDES):
            data = as_jpeg(image, long_side)
            with Image.open(io.BytesIO(data)) as stored:
                yield f"{name} {stored.width}x{stored.height}", data


def main() -> None:
    """Print one row per photo, and a JSON summary."""
    rows = []
    print(f"{'photo':<36} {'full ms':>8} {'reduced':>8} {'ratio':>6}   max and mean levels by tower")
    for name, data in photos(sys.argv[1:]):
        apart = {tower: difference(data, tower) for tower in sorted({TOWER, *worst_towers(data)})}
        full, reduced = (statistics.median(times) * 1000 for times in seconds(data, TOWER))
        shown = "  ".join(f"{tower}: {most:.0f} {mean:.2f}" for tower, (most, mean) in apart.items())
        print(f"{name:<36} {full:8.1f} {reduced:8.1f} {full / reduced:6.2f}   {shown}", flush=True)
        rows.append({"photo": name, "full_s": full / 1000, "reduced_s": reduced / 1000, "levels": apart})
    at_336 = [row["levels"][TOWER] for row in rows]
    everywhere = [levels for row in rows for levels in row["levels"].values()]
    summary = {
        "max_levels": max(most for most, _ in everywhere),
        "max_mean_levels": max(mean for _, mean in everywhere),
        "max_levels_336": max(most for most, _ in at_336),
        "max_mean_levels_336": max(mean for _, mean in at_336),
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "machine": platform.processor() or platform.machine(),
        "rows": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
