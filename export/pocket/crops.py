"""Make the spoilt pictures that teach the tower: crops of photographs, each in several versions."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from . import faults, photos
from .efficientnet import MEAN, STD
from .tower import IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .opinions import RatedPhoto

PAD_COLOUR = tuple(round(255 * level) for level in MEAN)
N_LADDERS = 2
"""Faults of one picture that are made in two strengths."""
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


def ladder(start: Image.Image, rng: np.random.Generator) -> Iterator[Version]:
    """Yield a picture with one fault, weak and stronger, made the same way."""
    fault = next(iter(faults.draw_strengths(rng, 1)))
    way, weak = int(rng.integers(2**32)), float(rng.uniform(0.1, 0.55))
    for strength in (weak, weak + float(rng.uniform(0.2, 0.45))):
        yield faults.spoil(start, {fault: strength}, np.random.default_rng(way), vary=True), {fault: strength}


def versions(crop: Image.Image, rng: np.random.Generator) -> Iterator[Version]:
    """Yield one crop, the same after being handled, two faults in two strengths each, and several at once."""
    yield crop, {}
    for _ in range(N_LADDERS):
        yield from ladder(handled(crop, rng) if rng.random() < 0.2 else crop, rng)
    several = faults.draw_strengths(rng, int(rng.choice((2, 3), p=(0.7, 0.3))))
    yield faults.spoil(crop, several, rng, vary=True), several
    yield handled(crop, rng), {}


def rated_versions(photo: Image.Image, rng: np.random.Generator) -> Iterator[Version]:
    """Yield a photograph that people rated, and two faults in two strengths each."""
    if rng.random() < 0.5:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    photo = faults.fit(photo, 500 if rng.random() < 0.5 else faults.LONG_SIDE)
    yield photo, {}
    for _ in range(N_LADDERS):
        yield from ladder(photo, rng)


def order_of(strengths: Sequence[Mapping[str, float]]) -> list[tuple[int, int, float]]:
    """Return (better, worse, by how much more strength) of the versions of one picture."""
    amounts = [sum(s.values()) for s in strengths]
    stronger = range(2, 1 + 2 * N_LADDERS, 2)
    return [
        (k - 1, k, amount - amounts[k - 1]) if k in stronger else (0, k, amount)
        for k, amount in enumerate(amounts) if amount
    ]  # fmt: skip


def source_of(number: int, n_sources: int, n_rated: int, *, seed: int) -> tuple[int, bool, np.random.Generator]:
    """Return which photograph a picture shows, whether people rated it, and what draws the rest of the picture."""
    rng = np.random.default_rng((seed, 77, number))
    is_rated = number % RATED_SHARE[1] >= RATED_SHARE[1] - RATED_SHARE[0]
    return int(rng.integers(n_rated if is_rated else n_sources)), is_rated, rng


def picture(
    number: int, cache: Path, sources: Sequence[photos.Photo], rated: Sequence[RatedPhoto], *, seed: int
) -> tuple[list[Version], bool]:
    """Return the versions of one picture, and whether it is one that people rated, of whose own faults nobody knows."""
    which, is_rated, rng = source_of(number, len(sources), len(rated), seed=seed)
    if is_rated:
        return list(rated_versions(Image.open(rated[which].path).convert("RGB"), rng)), True
    return list(versions(random_crop(photos.load(cache, sources[which]), rng), rng)), False


def labels_of(strengths: Mapping[str, float]) -> list[float]:
    """Return strengths in the order of faults.FAULTS; not a number where nobody knows."""
    known = dict(strengths)
    if known.get("overexposure", 0.0) >= CLIPS_FROM:
        known["clipped highlights"] = float("nan")
    return [known.get(fault, 0.0) for fault in faults.FAULTS]
