"""Keep what the network sees of pictures: pooled features, labels, and which of two pictures is the better one.

The network is not changed in training, so that it looks at each picture once. Features of a picture take 28 kB, pixels
442; ONNX Runtime makes them in a third of PyTorch's time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from aesedge_export.vision.vision_calibration import open_session

from aesedge.vision.tower import INPUT

from . import crops, faults, photos
from .faults import FAULTS
from .vision_files import write_pooled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from .opinions import RatedPhoto
    from .tower import Pooled

PER_PART = 20
"""Pictures, each in several versions, in one file."""
CLEAN_SIDES = (480, 430)
"""Long sides at which a clean whole photograph is looked at."""
UNLEARNT = ("tilt",)
"""Is not learnt from whole photographs: a turned photograph is cropped, and its size would tell of it."""
WHOLE: dict[str, tuple[tuple[str, ...], tuple[float, ...], int]] = {
    "train": (tuple(fault for fault in faults.MAIN_FAULTS if fault not in UNLEARNT), (faults.STRONG,), 6),
    "validation": (FAULTS, (faults.MODERATE, faults.STRONG), 5),
}
"""Faults and strengths in which the whole photographs of a split are looked at; the seed of the faults."""
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spoilt:
    """Features of spoilt pictures."""

    outputs: torch.Tensor
    """What tells of faults, [n, N_OUTPUTS]."""
    inner: torch.Tensor
    """What tells of people's opinions, [n, N_INNER]."""
    strengths: torch.Tensor
    """Of each fault, [n, FAULTS]; not a number where nobody knows."""
    better: torch.Tensor
    """Rows of the better ones of pairs of pictures."""
    worse: torch.Tensor
    gap: torch.Tensor
    """By how much more the worse ones are spoilt."""
    photo: torch.Tensor
    """Which photograph each picture shows, [n]; those that people rated have negative numbers."""


class Extractor:
    """Turns pictures into features."""

    def __init__(self, pooled: Pooled, path: Path) -> None:
        write_pooled(pooled, path)
        self._session = open_session(path)

    def __call__(self, images: Iterable[Image.Image]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
        """Return the two kinds of features of pictures, [n, N_OUTPUTS] and [n, N_INNER]."""
        seen = [self._session.run(None, {INPUT: crops.normalised([image]).numpy()}) for image in images]
        outputs, inner = (np.concatenate(part).astype(np.float16) for part in zip(*seen, strict=True))
        return outputs, inner

    def kept(self, path: Path, images: Iterator[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of pictures; a file that is there is read instead."""
        if not path.exists():
            outputs, inner = self(images)
            _save(path, outputs=outputs, inner=inner)
        stored = np.load(path)
        return torch.from_numpy(stored["outputs"]).float(), torch.from_numpy(stored["inner"]).float()

    def spoilt(self, cache: Path, rated: Sequence[RatedPhoto], n_parts: int, *, seed: int = 0) -> Spoilt:
        """Return features of spoilt pictures; parts that are in the cache are not made again."""
        folder = cache / f"features-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        sources = [p for p in photos.gather(cache) if p.split == "train"]
        paths = [folder / f"{part:03d}.npz" for part in range(n_parts)]
        for part, path in enumerate(paths):
            if not path.exists():
                numbers = range(part * PER_PART, (part + 1) * PER_PART)
                self._make_part(path, [crops.picture(n, cache, sources, rated, seed=seed) for n in numbers])
                print(f"features: part {part + 1} of {n_parts}", flush=True)
        parts = [np.load(path) for path in paths]
        starts = np.cumsum([0, *(len(part["outputs"]) for part in parts)])
        order = np.concatenate([p["order"] + (start, start, 0) for p, start in zip(parts, starts, strict=False)])
        outputs, inner, strengths = (
            torch.from_numpy(np.concatenate([part[name] for part in parts])).float()
            for name in ("outputs", "inner", "strengths")
        )
        rows = torch.from_numpy(order[:, :2].astype(np.int64))
        gap = torch.from_numpy(order[:, 2]).float()
        photo = _photos_of(parts, len(sources), len(rated), seed=seed)
        return Spoilt(outputs, inner, strengths, rows[:, 0], rows[:, 1], gap, photo)

    def _make_part(self, path: Path, pictures: Sequence[tuple[list[crops.Version], bool]]) -> None:
        images: list[Image.Image] = []
        labels: list[list[float]] = []
        order: list[tuple[int, int, float]] = []
        for versions, is_rated in pictures:
            order += [(len(images) + a, len(images) + b, gap) for a, b, gap in crops.order_of([s for _, s in versions])]
            images += [image for image, _ in versions]
            known = [crops.labels_of(strengths) for _, strengths in versions]
            labels += [[v if v > 0 or not is_rated else np.nan for v in row] for row in known]
        outputs, inner = self(images)
        counts = np.array([len(versions) for versions, _ in pictures])
        _save(path, outputs=outputs, inner=inner, strengths=np.array(labels, np.float32), order=np.array(order),
              counts=counts)  # fmt: skip


def _save(path: Path, **arrays: Any) -> None:
    with path.with_suffix(".new").open("wb") as file:
        np.savez(file, **arrays)
    path.with_suffix(".new").replace(path)


def _photos_of(parts: Sequence[Any], n_sources: int, n_rated: int, *, seed: int) -> torch.Tensor:
    counts = np.concatenate([part["counts"] for part in parts])
    drawn = (crops.source_of(number, n_sources, n_rated, seed=seed)[:2] for number in range(len(counts)))
    shown = [-1 - which if is_rated else which for which, is_rated in drawn]
    return torch.from_numpy(np.repeat(shown, counts))


def whole_rows(split: str, n_photos: int) -> list[tuple[str, float]]:
    """Return fault and strength of the pictures that whole_pictures yields, photograph by photograph."""
    of, strengths, _ = WHOLE[split]
    return n_photos * [("", 0.0), *((fault, strength) for fault in of for strength in strengths), ("", 0.0)]


def whole_pictures(cache: Path, split: str) -> Iterator[Image.Image]:
    """Yield whole photographs as they are evaluated: clean, spoilt, and clean once more but smaller."""
    seed = WHOLE[split][2]
    for number, photo in enumerate(p for p in photos.gather(cache) if p.split == split):
        image = photos.load(cache, photo)
        first, last = (faults.fit(image, side) for side in CLEAN_SIDES)
        yield first
        for fault, strength in whole_rows(split, 1)[1:-1]:
            rng = np.random.default_rng((seed, number, FAULTS.index(fault)))
            yield faults.spoil(first, {fault: strength}, rng)
        yield last


def whole_labels(n_photos: int) -> torch.Tensor:
    """Return the strengths of the pictures of whole training photographs, [n, FAULTS]."""
    rows = whole_rows("train", n_photos)
    return torch.tensor([crops.labels_of({fault: strength} if fault else {}) for fault, strength in rows])


def with_whole(spoilt: Spoilt, outputs: torch.Tensor) -> Spoilt:
    """Return the spoilt pictures and, behind them, those of whole training photographs, as the faults are learnt."""
    per_photo = len(whole_rows("train", 1))
    n_photos = len(outputs) // per_photo
    strengths = whole_labels(n_photos)
    strengths[:, [FAULTS.index(fault) for fault in UNLEARNT]] = torch.nan
    return replace(
        spoilt,
        outputs=torch.cat([spoilt.outputs, outputs]),
        strengths=torch.cat([spoilt.strengths, strengths]),
        photo=torch.cat([spoilt.photo, torch.arange(n_photos).repeat_interleave(per_photo)]),
    )
