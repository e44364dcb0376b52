"""Make and cache the spoilt crops that training looks at: pixels as the tower sees them, strengths as labels.

It knows photographs and faults; it does not know models or words.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from . import faults, photos

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE_SIZE = 224
PAD_COLOUR = (122, 116, 104)
PER_CROP = 4
"""Versions of one crop: clean, one fault twice (two strengths), several faults."""


def to_tower(image: Image.Image) -> Image.Image:
    """Pad to a square and resize, in LLaVA's order of steps."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def random_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the whole photograph (a third of the time) or a large part of it, at about faults.LONG_SIDE."""
    long_side = round(faults.LONG_SIDE * rng.uniform(0.9, 1.1))
    if rng.random() < 0.33:
        return faults.fit(image, long_side)
    area, ratio = rng.uniform(0.35, 0.95), np.exp(rng.uniform(np.log(0.6), np.log(1.8)))
    width = min(image.width, round((area * image.width * image.height * ratio) ** 0.5))
    height = min(image.height, round(width / ratio))
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return faults.fit(image.crop((left, top, left + width, top + height)), long_side)


def versions(crop: Image.Image, rng: np.random.Generator) -> Iterator[tuple[Image.Image, dict[str, float]]]:
    """Yield PER_CROP versions of one crop: clean, the same fault at two strengths, two or three faults."""
    yield crop, {}
    single = faults.draw_strengths(rng, 1)
    for strengths in (single, {k: float(rng.uniform(0.08, 1)) for k in single}):
        yield faults.spoil(crop, strengths, rng, vary=True), strengths
    several = faults.draw_strengths(rng, int(rng.choice((1, 2, 3), p=(0.4, 0.4, 0.2))))
    yield faults.spoil(crop, several, rng, vary=True), several


def make_chunk(
    start: int, count: int, *, cache: Path, split: str, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return pixels uint8 [count * PER_CROP, 224, 224, 3], strengths float32 [.., 10] of crops start.. ."""
    import zlib

    sources = [p for p in photos.gather(cache) if p.split == split]
    pixels = np.empty((count * PER_CROP, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    labels = np.zeros((count * PER_CROP, len(faults.FAULTS)), np.float32)
    for i in range(count):
        rng = np.random.default_rng((seed, zlib.crc32(split.encode()), start + i))
        photo = sources[int(rng.integers(len(sources)))]
        image = photos.load(cache, photo)
        for k, (version, strengths) in enumerate(versions(random_crop(image, rng), rng)):
            pixels[i * PER_CROP + k] = np.asarray(to_tower(version))
            labels[i * PER_CROP + k] = [strengths.get(f, 0.0) for f in faults.FAULTS]
    return pixels, labels


def make_crops(cache: Path, split: str, n_crops: int, *, seed: int = 0, workers: int = 2, chunk: int = 50) -> Path:
    """Write (or reuse) the crops of one split; pixels and strengths lie in two .npy files."""
    base = cache / f"crops-{split}-{n_crops}-{seed}"
    if (base / "done").exists():
        return base
    base.mkdir(parents=True, exist_ok=True)
    total = n_crops * PER_CROP
    shape = (total, IMAGE_SIZE, IMAGE_SIZE, 3)
    pixels = np.lib.format.open_memmap(base / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    labels = np.zeros((total, len(faults.FAULTS)), np.float32)
    work = partial(make_chunk, cache=cache, split=split, seed=seed)
    with ProcessPoolExecutor(workers) as pool:
        starts = range(0, n_crops, chunk)
        counts = [min(chunk, n_crops - s) for s in starts]
        for start, count, (part, strengths) in zip(starts, counts, pool.map(work, starts, counts), strict=True):
            pixels[start * PER_CROP : (start + count) * PER_CROP] = part
            labels[start * PER_CROP : (start + count) * PER_CROP] = strengths
            if start % 1000 == 0:
                print(f"crops {split}: {start}/{n_crops}", flush=True)
    pixels.flush()
    np.save(base / "labels.npy", labels)
    (base / "done").touch()
    return base
