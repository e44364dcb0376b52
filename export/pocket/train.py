"""One command from nothing to the pocket checkpoint: photographs, features, heads, language, folder.

    python -m aesedge_export.pocket.train --cache DIR --clive DIR --cq100 DIR --out DIR

A run that was cut off goes on where it stopped: every stage keeps its result in --cache. Lengths are counted in steps,
so that a run that was slowed down or stopped for a while ends with the same weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from . import crops, faults, photos
from .efficientnet import pretrained
from .faults import FAULTS
from .judgement import JudgementCode
from .model import save_checkpoint
from .opinions import RatedPhoto, read_opinions
from .progress import together
from .tokenizer import train_tokenizer
from .tower import Pooled, Tower
from .train_language import WIDTH, Mouth, Texts, train_language
from .train_tower import LIKED_FROM, set_knots, teach_faults, teach_opinions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VALIDATION_SIDES = (480, 430)
"""Long sides at which a clean validation photograph is looked at."""


@dataclass(frozen=True)
class Plan:
    """What a run is told; see main for each."""

    cache: Path
    clive: Path
    cq100: Path
    seed: int
    processes: int
    parts: int
    language_steps: int

    @property
    def state(self) -> Path:
        """Folder of the stages' results."""
        return self.cache / "training"


@contextmanager
def stage(name: str, times: dict[str, float]) -> Iterator[None]:
    """Print and note how long a stage took."""
    print(f"== {name}", flush=True)
    start = time.monotonic()
    yield
    times[name] = round(time.monotonic() - start, 1)
    print(f"== {name} took {times[name]} s", flush=True)


@torch.no_grad()
def look_at(pooled: Pooled, path: Path, images: Iterator[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network sees of pictures, outputs and inner features; a file that is there is read instead."""
    if not path.exists():
        seen = [[part[0].numpy().astype(np.float16) for part in pooled(crops.normalised([image]))] for image in images]
        with path.with_suffix(".new").open("wb") as file:
            np.savez(file, outputs=np.stack([o for o, _ in seen]), inner=np.stack([i for _, i in seen]))
        path.with_suffix(".new").replace(path)
    kept = np.load(path)
    return torch.from_numpy(kept["outputs"]).float(), torch.from_numpy(kept["inner"]).float()


def validation_pictures(cache: Path) -> Iterator[tuple[str, float, Image.Image, int]]:
    """Yield fault, strength, picture and number of validation photographs, clean and spoilt."""
    for number, photo in enumerate(p for p in photos.gather(cache) if p.split == "validation"):
        image = photos.load(cache, photo)
        clean = faults.fit(image, VALIDATION_SIDES[0])
        yield "", 0.0, clean, number
        for k, fault in enumerate(FAULTS):
            for strength in (faults.MODERATE, faults.STRONG):
                spoilt = faults.spoil(clean, {fault: strength}, np.random.default_rng((5, number, k)))
                yield fault, strength, spoilt, number
        yield "", 0.0, faults.fit(image, VALIDATION_SIDES[1]), number


def teach_tower(plan: Plan, rated: Sequence[RatedPhoto]) -> Tower:
    """Return the tower with its heads taught and set."""
    seed, cache = plan.seed, plan.cache
    network = pretrained()
    pooled = Pooled(network).eval()
    tower = Tower(network, JudgementCode(WIDTH))
    outputs, strengths = crops.make_features(pooled, cache, rated, plan.parts, seed=seed)
    teach_faults(tower.faults, torch.from_numpy(outputs), torch.from_numpy(strengths), seed=seed)
    of_rated = look_at(pooled, plan.state / "rated.npz", (Image.open(r.path).convert("RGB") for r in rated))
    opinions = torch.tensor([r.opinion for r in rated])
    rows = [(fault, strength, number) for fault, strength, _, number in validation_pictures(cache)]
    seen = look_at(pooled, plan.state / "validation.npz", (image for *_, image, _ in validation_pictures(cache)))
    strength = np.array([s for _, s, _ in rows], np.float32)
    spoilt = [k for k, (fault, _, _) in enumerate(rows) if fault]
    first = {number: k for k, (_, _, number) in reversed(list(enumerate(rows)))}
    originals = [first[rows[k][2]] for k in spoilt]
    order = (seen[1][originals], seen[1][spoilt], torch.from_numpy(strength[spoilt]))
    teach_opinions(tower, of_rated[1], opinions, order, seed=seed)
    tower.eval()
    with torch.no_grad():
        liked = tower.faults(of_rated[0][opinions >= LIKED_FROM])
        set_knots(tower, tower.faults(seen[0]), [fault for fault, _, _ in rows], strength, liked)
    return tower


def teach_language(plan: Plan) -> None:
    """Train the language model; one of several processes, or the only one."""
    texts = Texts(train_tokenizer(plan.state / "tokenizer.model", seed=plan.seed))
    train_language(Mouth(plan.seed), texts, plan.state / "language.pt", steps=plan.language_steps, seed=plan.seed)


def finished_mouth(plan: Plan) -> Mouth:
    """Return the language model that training ended with."""
    mouth = Mouth()
    mouth.load_state_dict(torch.load(plan.state / "language.pt", weights_only=True, map_location="cpu")["model"])
    return mouth.eval()


def train(plan: Plan, out: Path) -> None:
    """Run all stages."""
    times: dict[str, float] = {}
    plan.state.mkdir(parents=True, exist_ok=True)
    with stage("photographs", times):
        found = photos.gather(plan.cache, plan.cq100, seed=plan.seed)
        rated = [r for r in read_opinions(plan.clive) if not r.is_test]
        counts = {split: sum(p.split == split for p in found) for split in ("train", "validation", "test")}
        print(f"photographs: {counts}, rated: {len(rated)}", flush=True)
    with stage("tower", times):
        tower = teach_tower(plan, rated)
    with stage("language", times):
        train_tokenizer(plan.state / "tokenizer.model", seed=plan.seed)
        together(plan.processes, teach_language, plan)
    mouth = finished_mouth(plan)
    tower.code.load_state_dict(mouth.code.state_dict())
    save_checkpoint(tower, mouth, plan.state / "tokenizer.model", out)
    shutil.copyfile(plan.cache / "provenance.json", out / "provenance.json")
    record = {
        "seconds": times, "seed": plan.seed, "processes": plan.processes, "language_steps": plan.language_steps,
        "n_pictures": plan.parts * crops.PER_PART, "photographs": counts, "n_rated": len(rated),
    }  # fmt: skip
    (out / "training.json").write_text(json.dumps(record, indent=1), "utf-8")
    print(f"checkpoint: {out}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="packages, photographs, features, training state")
    parser.add_argument("--clive", type=Path, required=True, help="LIVE In the Wild: a folder of images and mos.csv")
    parser.add_argument("--cq100", type=Path, required=True, help="folder img/CQ100 of github.com/IanManske/quantette")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--parts", type=int, default=42, help="files of 20 spoilt pictures, each in 4 or 6 versions")
    parser.add_argument("--language-steps", type=int, default=1100, help="of 4 drawn judgements in each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="that train the language with shared gradients")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in each process")
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    torch.set_num_threads(options.pop("threads"))
    train(Plan(**options), out)


if __name__ == "__main__":
    main()
