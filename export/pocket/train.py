"""One command from nothing to the pocket checkpoint: photographs, crops, tower, thresholds, language, folder.

    python -m aesedge_export.pocket.train --cache DIR --out DIR

It knows the order of the stages and where each leaves its result; the stages know the rest. A run that was cut
off goes on where it stopped: every stage keeps its result in --cache. Lengths are counted in steps, so that a run
that was slowed down or stopped for a while ends with the same weights.
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
from PIL import Image
from safetensors.torch import load_file

from . import crops, cutouts, faults, photos
from .faults import FAULTS
from .impression import Impression, find_layout_thresholds, find_thresholds, impressions
from .model import build_llava, prime_projector, read_judgement, save_checkpoint
from .phrases import LAYOUT_NAMES, NAMES
from .scenes import LAYOUT
from .tokenizer import train_tokenizer
from .train_language import Lessons, Texts, train_language
from .train_tower import build, features_of, judge, train_tower

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import sentencepiece
    from transformers import LlavaForConditionalGeneration

    from .tower import FaultTower

FALSE_ALARMS = 0.02
"""Share of clean validation pictures in which the tower may see a fault."""
WHOLE_SIDES = (480, 430)
"""Long sides at which whole validation photographs are looked at."""


@contextmanager
def stage(name: str, times: dict[str, float]) -> Iterator[None]:
    """Print and note how long a stage took."""
    print(f"== {name}", flush=True)
    start = time.monotonic()
    yield
    times[name] = round(time.monotonic() - start, 1)
    print(f"== {name} took {times[name]} s", flush=True)


@torch.no_grad()
def judge_whole(tower: FaultTower, cache: Path, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return the head's logits of whole clean validation photographs, as they are and mirrored, [n, outputs]."""
    filters, found = crops.loud_filters(cache, seed=seed), []
    for photo in (p for p in photos.gather(cache) if p.split == "validation"):
        image = photos.load(cache, photo)
        views = [view for side in WHOLE_SIDES for view in (faults.fit(image, side), mirrored(faults.fit(image, side)))]
        rows = np.stack([crops.read_patches(np.asarray(crops.to_tower(view)), filters) for view in views])
        found.append(tower(torch.from_numpy(rows))[0].double().numpy())
    return np.concatenate(found)


def mirrored(image: Image.Image) -> Image.Image:
    """Return the picture, left and right exchanged."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def calibrate(
    tower: FaultTower, validation: crops.Crops, path: Path, whole: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Set and keep the thresholds from which something is said, on validation pictures.

    Args:
        tower: sees them.
        validation: crops and scenes.
        path: JSON file that keeps the thresholds.
        whole: what judge_whole returns.
    """
    logits = judge(tower, validation, np.arange(len(validation)))
    labels = validation.labels.astype(np.float64)
    named = find_thresholds(logits, labels, false_alarms=FALSE_ALARMS, whole=whole)
    ordinary = np.isnan(validation.layout).all(1) & (labels.max(1) == 0)
    made = ~np.isnan(validation.layout).any(1)
    placed = find_layout_thresholds(
        np.concatenate([logits[ordinary], whole]), logits[made], validation.layout[made].astype(float)
    )
    found = np.concatenate([named, placed])
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"false_alarms": FALSE_ALARMS, "logits": found.tolist()}), "utf-8")
    new.replace(path)
    return found


def look_at(
    tower: FaultTower, train: crops.Crops, thresholds: npt.NDArray[np.float64], *, n_pictures: int, seed: int
) -> Lessons:
    """Return what the tower sees of some training pictures."""
    picked = np.random.default_rng((seed, 5)).permutation(len(train))[:n_pictures]
    features, seen, looks = [], list[Impression](), []
    for start in range(0, len(picked), 600):
        part = np.sort(picked[start : start + 600])
        features.append(features_of(tower, train, part))
        with torch.no_grad():
            logits = torch.cat([tower.judge(torch.from_numpy(f).float()[None]).mean(1) for f in features[-1]])
        now = impressions(logits.double().numpy(), thresholds)
        looks += [[*train.looks(int(i)), *mine.places] for i, mine in zip(part, now, strict=True)]
        seen += now
        print(f"looked at {start + len(part)} of {len(picked)}", flush=True)
    return Lessons(np.concatenate(features), seen, looks)


def take_language(model: LlavaForConditionalGeneration, checkpoint: Path) -> None:
    """Start with the language model of an earlier checkpoint; tower and projector stay."""
    earlier = load_file(checkpoint / "model.safetensors")
    own = {plain_name(name): p for name, p in model.named_parameters() if is_language(name)}
    wanted = {plain_name(name): weight for name, weight in earlier.items() if is_language(name)}
    if set(own) != set(wanted):
        raise ValueError(f"{checkpoint}: not this language model: {sorted(set(own) ^ set(wanted))}")
    with torch.no_grad():
        for name, weight in wanted.items():
            own[name].copy_(weight)


@torch.no_grad()
def prime(
    model: LlavaForConditionalGeneration, tower: FaultTower, lessons: Lessons, thresholds: npt.NDArray[np.float64],
    tokenizer: sentencepiece.SentencePieceProcessor, *, outputs_from: int = 0,
) -> None:  # fmt: skip
    """Let the projector start with what the tower's head says."""
    some = torch.from_numpy(lessons.features[:: max(1, len(lessons.features) // 600)]).float()
    reading = read_judgement(some[:, ::4], tower.judge(some).mean(1))
    words = [tokenizer.encode(name) for name in (*(NAMES[f] for f in FAULTS), *(LAYOUT_NAMES[k] for k in LAYOUT))]
    prime_projector(model, reading, torch.from_numpy(thresholds).float(), words, outputs_from=outputs_from)


def is_language(name: str) -> bool:
    """Tell whether a tensor belongs to the language model."""
    return "vision_tower" not in name and "projector" not in name


def plain_name(name: str) -> str:
    """Return a tensor's name without what transformers puts in front, which is not the same in every version."""
    return ".".join(part for part in name.split(".") if part not in ("model", "language_model"))


def train(cache: Path, out: Path, options: argparse.Namespace) -> None:
    """Run all stages; `options` as main reads them."""
    times: dict[str, float] = {}
    seed = options.seed
    with stage("photographs", times):
        found = photos.gather(cache, seed=seed)
        counts = {split: sum(p.split == split for p in found) for split in ("train", "validation", "test")}
        print(f"photographs: {counts}, subjects: {len(cutouts.gather(cache))}", flush=True)
    with stage("crops", times):
        pictures, validation = (
            crops.Crops(crops.make_crops(cache, split, n, seed=seed, workers=options.workers))
            for split, n in (("train", options.parts), ("validation", 4))
        )
    state = cache / "training"
    with stage("tower", times):
        tower = build(crops.loud_filters(cache, seed=seed), seed)
        train_tower(tower, pictures, validation, state / "tower.pt", steps=options.tower_steps, seed=seed)
        tower.eval()
    with stage("thresholds", times):
        whole = judge_whole(tower, cache, seed=seed)
        thresholds = calibrate(tower, validation, state / "thresholds.json", whole)
    with stage("features", times):
        lessons = look_at(tower, pictures, thresholds, n_pictures=options.pictures, seed=seed)
    with stage("tokenizer", times):
        tokenizer_model = state / "tokenizer.model"
        if options.language:
            shutil.copyfile(options.language / "tokenizer.model", tokenizer_model)
        tokenizer = train_tokenizer(tokenizer_model, seed=seed)
    with stage("language", times):
        some = torch.from_numpy(lessons.features[:64]).float().reshape(-1, lessons.features.shape[-1])
        model = build_llava(tower, some, seed)
        if options.language:
            take_language(model, options.language)
        prime(model, tower, lessons, thresholds, tokenizer)
        steps = options.language_steps
        train_language(model, lessons, Texts(tokenizer), state / "language.pt", steps=steps, seed=seed)
    save_checkpoint(model, tokenizer_model, out)
    for table in ("provenance.json", "cutouts.json"):
        shutil.copyfile(cache / table, out / table)
    record = {
        "seconds": times, "seed": seed, "tower_steps": options.tower_steps, "language_steps": steps,
        "n_crops": options.parts * crops.PER_PART, "photographs": counts,
    }  # fmt: skip
    (out / "training.json").write_text(json.dumps(record, indent=1), "utf-8")
    print(f"checkpoint: {out}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="packages, photographs, crops, training state")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--tower-steps", type=int, default=2600, help="of 60 pictures each")
    parser.add_argument("--language-steps", type=int, default=3000, help="of 12 pictures each")
    parser.add_argument("--parts", type=int, default=100, help="training crops in hundreds, each in six versions")
    parser.add_argument("--pictures", type=int, default=14000, help="training pictures that are talked about")
    parser.add_argument("--language", type=Path, help="checkpoint whose language model to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that make crops")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch; 1 where the cores are shared")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train(options.cache, options.out, options)


if __name__ == "__main__":
    main()
