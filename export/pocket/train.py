"""One command from nothing to the pocket checkpoint: photographs, crops, tower, features, language, folder.

    python -m aesedge_export.pocket.train --cache DIR --out DIR [--minutes 60]

It knows the order of the stages and where each leaves its result; the stages know the rest. A run that was cut
off goes on where it stopped: every stage keeps its result in --cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from . import crops, photos
from .looks import looks_of
from .model import build_llava, save_checkpoint
from .tokenizer import train_tokenizer
from .train_language import Lessons, Texts, train_language
from .train_tower import build, read_crops, train_tower, write_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, N_LAYERS = 192, 6


@contextmanager
def stage(name: str, times: dict[str, float]) -> Iterator[None]:
    """Print and note how long a stage took."""
    print(f"== {name}", flush=True)
    start = time.monotonic()
    yield
    times[name] = round(time.monotonic() - start, 1)
    print(f"== {name} took {times[name]} s", flush=True)


def train(cache: Path, out: Path, *, minutes: float, n_crops: int, seed: int, workers: int) -> None:
    """Run all stages; half of `minutes` goes to the tower, half to the language."""
    times: dict[str, float] = {}
    with stage("photographs", times):
        found = photos.gather(cache, seed=seed)
        counts = {split: sum(p.split == split for p in found) for split in ("train", "validation", "test")}
        print(f"photographs: {counts}", flush=True)
    with stage("crops", times):
        folders = [crops.make_crops(cache, split, n, seed=seed, workers=workers)
                   for split, n in (("train", n_crops), ("validation", 250))]  # fmt: skip
        (pixels, labels), validation = (read_crops(folder) for folder in folders)
    state = cache / "training"
    with stage("tower", times):
        tower = build(WIDTH, N_LAYERS, pixels, seed)
        train_tower(tower, (pixels, labels), validation, state / "tower.pt", minutes=minutes / 2, seed=seed)
    with stage("features", times):
        path = state / "features.npy"
        features = np.load(path, mmap_mode="r") if path.exists() else write_features(tower, pixels, path)
        looks = [looks_of(np.asarray(picture)) for picture in pixels]
    with stage("tokenizer", times):
        tokenizer_model = state / "tokenizer.model"
        tokenizer = train_tokenizer(tokenizer_model, seed=seed)
    with stage("language", times):
        some = torch.from_numpy(np.array(features[:64])).float().reshape(-1, features.shape[-1])
        model = build_llava(tower, some, seed)
        lessons = Lessons(features, labels, looks)
        train_language(model, lessons, Texts(tokenizer), state / "language.pt", minutes=minutes / 2, seed=seed)
    save_checkpoint(model, tokenizer_model, out)
    shutil.copyfile(cache / "provenance.json", out / "provenance.json")
    record = {"seconds": times, "seed": seed, "minutes": minutes, "n_crops": n_crops, "photographs": counts}
    (out / "training.json").write_text(json.dumps(record, indent=1), "utf-8")
    print(f"checkpoint: {out}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="packages, photographs, crops, training state")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--minutes", type=float, default=60, help="training time, tower and language together")
    parser.add_argument("--crops", type=int, default=9000, help="training crops; each is stored in four versions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that make crops")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.cache, options.out, minutes=options.minutes, n_crops=options.crops, seed=options.seed,
          workers=options.workers)  # fmt: skip


if __name__ == "__main__":
    main()
