"""Make the spoilt pictures that teach the tower, and keep what the network sees of them: pooled features and labels.

Features of a picture take 38 kB, pixels 442; and the network is not changed in training.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter

from . import faults, photos
from .efficientnet import MEAN, STD
from .tower import IMAGE_SIZE, Pooled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .opinions import RatedPhoto

PAD_COLOUR = tuple(round(255 * level) for level in MEAN)
PER_PART = 20
"""Pictures, each in several versions, in one file."""
RATED_SHARE = (2, 5)
"""Of so many pictures, so many are photographs that people rated."""
CLIPS_FROM = 0.15
"""Overexposure of this strength clips highlights too, by how much nobody knows."""
DEVELOPED_SHARE = 0.7
"""Of crops, how many are developed anew."""
Version = tuple[Image.Image, dict[str, float]]


def to_tower(image: Image.Image) -> Image.Image:
    """Pad to a square and resize, in LLaVA's order of steps."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def normalised(images: Sequence[Image.Image]) -> torch.Tensor:
    """Return the pixel values that the tower reads, float32 [n, 3, IMAGE_SIZE, IMAGE_SIZE]."""
    levels = np.stack([np.asarray(to_tower(image), np.float32) for image in images]) / np.float32(255)
    values = (levels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def turned(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the photograph mirrored half of the time, now and then upside down or on its side."""
    for way, often in (("FLIP_LEFT_RIGHT", 0.5), ("FLIP_TOP_BOTTOM", 0.15), ("TRANSPOSE", 0.12)):
        if rng.random() < often:
            image = image.transpose(Image.Transpose[way])
    return image


def developed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the photograph, mostly as another photographer might have developed it: lighter, paler, crisper, but well.

    There are few photographs, and a tower that knows each by its colors learns nothing about others.
    """
    if rng.random() >= DEVELOPED_SHARE:
        return image
    gamma, warm = np.exp(rng.normal(0, 0.1)), rng.normal(0, 0.025, 3)
    curve = 255 * (np.arange(256) / 255) ** gamma
    image = image.point([round(min(255.0, v * gain)) for gain in 1 + warm - warm.mean() for v in curve])
    color = 0.0 if rng.random() < 0.03 else rng.uniform(0.65, 1.25)
    image = ImageEnhance.Color(image).enhance(color)
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.85, 1.12))
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.UnsharpMask(rng.uniform(0.5, 1.5), int(rng.integers(20, 90)), 2))
    return image


def random_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return all or part of a photograph, turned and developed anew, mostly at faults.LONG_SIDE."""
    exact = rng.random() < 0.6
    long_side = faults.LONG_SIDE if exact else round(faults.LONG_SIDE * rng.uniform(0.85, 1.2))
    image = turned(image, rng)
    return developed(part_of(image, long_side, rng), rng)


def part_of(image: Image.Image, long_side: int, rng: np.random.Generator) -> Image.Image:
    """Return the whole photograph (a third of the time) or a large part of it."""
    if rng.random() < 0.33:
        return faults.fit(image, long_side)
    area, ratio = rng.uniform(0.35, 0.95), np.exp(rng.uniform(np.log(0.6), np.log(1.8)))
    width = min(image.width, round((area * image.width * image.height * ratio) ** 0.5))
    height = min(image.height, round(width / ratio))
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return faults.fit(image.crop((left, top, left + width, top + height)), long_side)


def handled(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a photograph after what spoils nobody's pleasure: a hint of fault, saved with good quality."""
    hint = {k: 0.3 * v * v for k, v in faults.draw_strengths(rng, 2).items() if k not in ("tilt", "jpeg", "noise")}
    image = faults.spoil(image, {k: min(0.06, v) for k, v in hint.items()}, rng, vary=True)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(82, 97)), subsampling=int(rng.integers(3)))
    return Image.open(stream).convert("RGB")


def versions(crop: Image.Image, rng: np.random.Generator) -> Iterator[tuple[Image.Image, dict[str, float]]]:
    """Yield PER_CROP versions of one crop, with the strengths of what was done to them."""
    yield crop, {}
    yield handled(crop, rng), {}
    single = faults.draw_strengths(rng, 1)
    another = faults.draw_strengths(rng, 1)
    several = faults.draw_strengths(rng, int(rng.choice((2, 3), p=(0.7, 0.3))))
    for strengths in (single, {k: float(rng.uniform(0.05, 1)) for k in single}, another, several):
        # Faults come on top of how a photo was kept, too.
        start = handled(crop, rng) if rng.random() < 0.2 else crop
        yield faults.spoil(start, strengths, rng, vary=True), strengths


def rated_versions(photo: Image.Image, rng: np.random.Generator) -> Iterator[Version]:
    """Yield a photograph that people rated, one fault in two strengths, and another."""
    if rng.random() < 0.5:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    photo = faults.fit(photo, 500 if rng.random() < 0.5 else faults.LONG_SIDE)
    one, another = faults.draw_strengths(rng, 1), faults.draw_strengths(rng, 1)
    for strengths in ({}, one, {k: float(rng.uniform(0.05, 1)) for k in one}, another):
        yield faults.spoil(photo, strengths, rng, vary=True), strengths


def picture(
    number: int, cache: Path, sources: Sequence[photos.Photo], rated: Sequence[RatedPhoto], *, seed: int
) -> Iterator[tuple[Image.Image, list[float]]]:
    """Yield the versions of one picture, each with the strengths of its faults; not a number where nobody knows."""
    rng = np.random.default_rng((seed, 77, number))
    n_rated, of = RATED_SHARE
    if number % of < of - n_rated:
        photo = sources[int(rng.integers(len(sources)))]
        for version, strengths in versions(random_crop(photos.load(cache, photo), rng), rng):
            yield version, labels_of(strengths)
    else:
        image = Image.open(rated[int(rng.integers(len(rated)))].path).convert("RGB")
        for version, strengths in rated_versions(image, rng):
            yield version, [label if label > 0 else np.nan for label in labels_of(strengths)]


@torch.no_grad()
def make_features(
    pooled: Pooled, cache: Path, rated: Sequence[RatedPhoto], n_parts: int, *, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what tells of faults [n, N_OUTPUTS] and their strengths [n, FAULTS]; parts that are in the cache stay."""
    folder = cache / f"features-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    sources = [p for p in photos.gather(cache) if p.split == "train"]
    for part in range(n_parts):
        path = folder / f"{part:03d}.npz"
        if path.exists():
            continue
        found, labels = [], []
        for number in range(part * PER_PART, (part + 1) * PER_PART):
            for version, strengths in picture(number, cache, sources, rated, seed=seed):
                found.append(pooled(normalised([version]))[0][0].numpy().astype(np.float16))
                labels.append(strengths)
        with path.with_suffix(".new").open("wb") as file:
            np.savez(file, outputs=np.stack(found), strengths=np.array(labels, np.float32))
        path.with_suffix(".new").replace(path)
        print(f"features: part {part + 1} of {n_parts}", flush=True)
    parts = [np.load(folder / f"{part:03d}.npz") for part in range(n_parts)]
    outputs = np.concatenate([part["outputs"] for part in parts]).astype(np.float32)
    return outputs, np.concatenate([part["strengths"] for part in parts])


def labels_of(strengths: Mapping[str, float]) -> list[float]:
    """Return strengths in the order of faults.FAULTS; not a number where nobody knows."""
    known = dict(strengths)
    if known.get("overexposure", 0.0) >= CLIPS_FROM:
        known["clipped highlights"] = float("nan")
    return [known.get(fault, 0.0) for fault in faults.FAULTS]
