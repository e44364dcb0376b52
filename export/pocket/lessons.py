"""Let the finished tower look at pictures, and keep what it makes of them for the language stage.

It knows the tower, crops and whole photographs; it does not know words.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import ImageOps

from . import crops, faults, photos
from .impression import impressions
from .looks import looks_of
from .progress import write_json
from .train_language import Lessons
from .train_tower import features_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .tower import FaultTower

WHOLE_SIDES = (480, 430)
"""Long sides at which whole photographs are looked at."""
FEATURES, LOGITS, LOOKS = "features.npy", "logits.npy", "looks.json"


def whole_rows(cache: Path, split: str, *, seed: int = 0) -> Iterator[tuple[npt.NDArray[np.float32], list[list[str]]]]:
    """Yield what the filters read of each whole clean photograph of a split, as it is and mirrored, at WHOLE_SIDES.

    Yields:
        rows float32 [views, patches, filters]; the looks of each view.
    """
    filters = crops.loud_filters(cache, seed=seed)
    for photo in (p for p in photos.gather(cache) if p.split == split):
        image = photos.load(cache, photo)
        sizes = [faults.fit(image, side) for side in WHOLE_SIDES]
        views = [view for size in sizes for view in (size, ImageOps.mirror(size))]
        pixels = [np.asarray(crops.to_tower(view)) for view in views]
        yield np.stack([crops.read_patches(p, filters) for p in pixels]), [looks_of(p) for p in pixels]


@torch.no_grad()
def judge_whole(tower: FaultTower, cache: Path, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return the head's logits of whole clean validation photographs, [n, outputs]."""
    views = whole_rows(cache, "validation", seed=seed)
    return np.concatenate([tower(torch.from_numpy(rows))[0].double().numpy() for rows, _ in views])


@torch.no_grad()
def look_at(tower: FaultTower, cache: Path, pictures: crops.Crops, folder: Path, *, n_pictures: int, seed: int) -> None:
    """Keep what the tower makes of some training crops, and of every whole training photograph, clean.

    Writes features float16 [n, patches, width], the head's logits [n, outputs], looks.
    """
    picked = np.random.default_rng((seed, 5)).permutation(len(pictures))[:n_pictures]
    features, looks = [], []
    for start in range(0, len(picked), 600):
        part = np.sort(picked[start : start + 600])
        features.append(features_of(tower, pictures, part))
        looks += [pictures.looks(int(i)) for i in part]
        print(f"looked at {start + len(part)} of {len(picked)} crops", flush=True)
    for rows, mine in whole_rows(cache, "train", seed=seed):
        with torch.autocast("cpu", torch.bfloat16):
            seen = tower.features_of_rows(torch.from_numpy(rows))
        features.append(seen.float().numpy().astype(np.float16))
        looks += mine
    logits = [tower.judge(torch.from_numpy(f).float()[None]).mean(1) for block in features for f in block]
    np.save(folder / FEATURES, np.concatenate(features))
    np.save(folder / LOGITS, torch.cat(logits).double().numpy())
    # Last and whole, because it tells that all three are there, and of which tower.
    write_json(folder / LOOKS, {"of": state_of(tower), "looks": looks})


def state_of(tower: FaultTower) -> str:
    """Return what tells one finished tower from another."""
    weights = b"".join(weight.numpy().tobytes() for weight in tower.state_dict().values())
    return hashlib.sha256(weights).hexdigest()


def lessons_from(folder: Path) -> Lessons:
    """Return what look_at kept, as the thresholds see it."""
    features, logits = (np.load(folder / name, mmap_mode="r") for name in (FEATURES, LOGITS))
    set_on = json.loads((folder / "thresholds.json").read_text("utf-8"))
    seen = impressions(np.asarray(logits), np.array(set_on["logits"]), tuple(set_on["scale"]))
    looks = json.loads((folder / LOOKS).read_text("utf-8"))["looks"]
    return Lessons(features, seen, [[*known, *one.places] for known, one in zip(looks, seen, strict=True)])


def looked(folder: Path, tower: FaultTower) -> bool:
    """Tell whether lessons of this tower are there."""
    kept = folder / LOOKS
    return kept.exists() and json.loads(kept.read_text("utf-8"))["of"] == state_of(tower)
