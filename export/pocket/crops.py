"""Make and cache the spoilt crops that training looks at: what the tower's filters read of them, strengths as labels.

It knows photographs, faults and filters; it does not know models or words. The filters are not learnt, so that
their answers (74 kB a picture, where pixels are 691 kB) can be kept.
"""

from __future__ import annotations

import io
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from . import cutouts, faults, photos, scenes
from .filters import N_FILTERS, PATCH, design
from .looks import LOOKS, looks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

IMAGE_SIZE = 480
N_PATCHES = (IMAGE_SIZE // PATCH) ** 2
PAD_COLOUR = (122, 116, 104)
PER_CROP = 6
"""Versions of one crop: clean, clean and handled once more, one fault twice (two strengths), another, several."""
N_FACTS = len(faults.FAULTS) + len(scenes.LAYOUT) + len(LOOKS)
PER_PART = 100
"""Crops in one file."""
SCENE_EVERY = 4
"""Every so many crops, a scene is made instead of a crop of a photograph."""
CLIPS_FROM = 0.15
"""Overexposure of this strength clips highlights too, by how much nobody knows."""
DEVELOPED_SHARE = 0.7
"""Of crops and scenes, how many are developed anew."""
N_SPREAD = 150
"""Clean crops that say how loud each filter is."""


def to_tower(image: Image.Image) -> Image.Image:
    """Pad to a square and resize, in LLaVA's order of steps."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def read_patches(pixels: npt.NDArray[np.uint8], filters: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what filters for RGB of 0 to 1 read of a picture less the pad colour, float32 [N_PATCHES, filters]."""
    n = IMAGE_SIZE // PATCH
    levels = (pixels.astype(np.float32) - np.array(PAD_COLOUR, np.float32)) / 255
    patches = levels.reshape(n, PATCH, n, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(n * n, -1)
    return np.asarray(patches @ filters.reshape(len(filters), -1).T)


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


def crop_of(number: int, *, cache: Path, split: str, seed: int) -> tuple[Image.Image, np.random.Generator]:
    """Return one clean crop, and the generator that goes on with it."""
    sources = [p for p in photos.gather(cache) if p.split == split]
    rng = np.random.default_rng((seed, zlib.crc32(split.encode()), number))
    photo = sources[int(rng.integers(len(sources)))]
    return random_crop(photos.load(cache, photo), rng), rng


def scene_of(
    number: int, *, cache: Path, split: str, seed: int
) -> tuple[Image.Image, scenes.Label, np.random.Generator]:
    """Return one clean scene, what is known of its composition, and the generator that goes on with it."""
    rng = np.random.default_rng((seed, zlib.crc32(split.encode()), number, 1))
    sources = [p for p in photos.gather(cache) if p.split == split]
    subjects = [p for p in cutouts.gather(cache) if p.split == split]
    photo = photos.load(cache, sources[int(rng.integers(len(sources)))])
    chosen = [cutouts.load(cache, subjects[int(k)]) for k in rng.integers(len(subjects), size=4)]
    picture, known = scenes.scene(photo, chosen, rng)
    return developed(picture, rng), known, rng


def loud_filters(cache: Path, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return the filters, each divided by the spread of what it reads of clean training crops.

    So the faint high frequencies, where blur, noise and compression show, are as loud as the rest.
    """
    path = cache / f"filters-{seed}.npy"
    if not path.exists():
        filters = design()
        read = [read_patches(np.asarray(to_tower(crop_of(i, cache=cache, split="train", seed=seed)[0])), filters)
                for i in range(N_SPREAD)]  # fmt: skip
        inside = np.concatenate([r[np.abs(r).max(1) > 0.02] for r in read])
        spread = np.sqrt((inside**2).mean(0))
        np.save(path, filters / spread[:, None, None, None])
    return np.asarray(np.load(path), np.float32)


def make_part(number: int, *, base: Path, cache: Path, split: str, seed: int) -> None:
    """Write the crops of one part: rows float16 [n, N_PATCHES, filters]; what is known of them float32 [n, N_FACTS].

    Facts are strengths, composition and looks; what nobody knows is not a number.
    """
    path = base / f"{number:05d}-rows.npy"
    if path.exists():
        return
    filters = loud_filters(cache, seed=seed)
    rows = np.empty((PER_PART * PER_CROP, N_PATCHES, N_FILTERS), np.float16)
    facts = np.zeros((PER_PART * PER_CROP, N_FACTS), np.float32)
    at = 0
    for i in range(number * PER_PART, (number + 1) * PER_PART):
        layout = dict.fromkeys(scenes.LAYOUT, scenes.UNKNOWN)
        if i % SCENE_EVERY == SCENE_EVERY - 1:
            crop, layout, rng = scene_of(i, cache=cache, split=split, seed=seed)
        else:
            crop, rng = crop_of(i, cache=cache, split=split, seed=seed)
        for version, strengths in versions(crop, rng):
            pixels = np.asarray(to_tower(version))
            rows[at] = np.clip(read_patches(pixels, filters), -6e4, 6e4)
            after = scenes.known_after(layout, strengths)
            facts[at] = [*labels_of(strengths), *(after[name] for name in scenes.LAYOUT), *has(looks_of(pixels))]
            at += 1
    np.save(base / f"{number:05d}-facts.npy", facts)
    np.save(path.with_suffix(".new.npy"), rows)
    path.with_suffix(".new.npy").replace(path)


def has(looks: Sequence[str]) -> list[float]:
    """Return 1 for each look that is there."""
    return [float(look in looks) for look in LOOKS]


def make_crops(cache: Path, split: str, n_parts: int, *, seed: int = 0, workers: int = 2) -> Path:
    """Write the parts of one split that are not there; each is seeded by its number alone."""
    base = cache / f"crops-{split}-{seed}"
    base.mkdir(parents=True, exist_ok=True)
    loud_filters(cache, seed=seed)
    cutouts.gather(cache)
    work = partial(make_part, base=base, cache=cache, split=split, seed=seed)
    with ProcessPoolExecutor(workers) as pool:
        for number, _ in enumerate(pool.map(work, range(n_parts))):
            print(f"crops {split}: part {number + 1} of {n_parts}", flush=True)
    return base


class Crops:
    """The parts of one split that are there, memory-mapped; `look_again` finds those written since."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.rows: list[npt.NDArray[np.float16]] = []
        self.facts: npt.NDArray[np.float32] = np.zeros((0, N_FACTS), np.float32)
        self.look_again()

    def look_again(self) -> None:
        """Find new parts."""
        paths = sorted(p for p in self.base.glob("*-rows.npy"))
        if len(paths) == len(self.rows):
            return
        self.rows = [np.load(p, mmap_mode="r") for p in paths]
        self.facts = np.concatenate([np.load(str(p).replace("-rows", "-facts")) for p in paths])

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.facts)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """Strengths, float32 [n, faults]; 0 also where it is not known (see `known`)."""
        return np.nan_to_num(self.facts[:, : len(faults.FAULTS)])

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether the strength is known, [n, faults]."""
        return ~np.isnan(self.facts[:, : len(faults.FAULTS)])

    @property
    def layout(self) -> npt.NDArray[np.float32]:
        """Composition, float32 [n, scenes.LAYOUT]: 1 there, 0 not there, not a number where it is not known."""
        return self.facts[:, len(faults.FAULTS) : N_FACTS - len(LOOKS)]

    def looks(self, index: int) -> list[str]:
        """Return the looks of one picture."""
        return [look for look, there in zip(LOOKS, self.facts[index, -len(LOOKS) :], strict=True) if there]

    def take(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return rows of some pictures, float32 [n, N_PATCHES, filters]."""
        n = PER_PART * PER_CROP
        return np.stack([self.rows[i // n][i % n] for i in indices]).astype(np.float32)


def labels_of(strengths: Mapping[str, float]) -> list[float]:
    """Return strengths in the order of faults.FAULTS; not a number where nobody knows."""
    known = dict(strengths)
    if known.get("overexposure", 0.0) >= CLIPS_FROM:
        known["clipped highlights"] = scenes.UNKNOWN
    return [known.get(fault, 0.0) for fault in faults.FAULTS]
