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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from . import crops, cutouts, photos
from .faults import FAULTS
from .impression import TOTAL, find_layout_thresholds, find_scale, find_thresholds
from .lessons import judge_whole, lessons_from, look_at, looked
from .model import build_llava, llava_config, prime_projector, read_judgement, save_checkpoint
from .phrases import LAYOUT_NAMES, NAMES
from .progress import rank, together, write_json
from .scenes import LAYOUT
from .tokenizer import train_tokenizer
from .tower import FaultTower, tower_config
from .train_language import Lessons, Texts, train_language
from .train_tower import build, judge, total_fault, train_tower

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

FALSE_ALARMS = 0.02
"""Share of clean validation pictures in which the tower may see a fault."""
N_VALIDATION_PARTS = 4


@dataclass(frozen=True)
class Plan:
    """What a run is told; see main for each."""

    cache: Path
    seed: int
    processes: int
    parts: int
    tower_steps: int
    legs: int
    leg_steps: int
    pictures: int
    language_steps: int
    tower: Path | None = None
    language: Path | None = None

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


def calibrate(tower: FaultTower, validation: crops.Crops, path: Path, whole: npt.NDArray[np.float64]) -> None:
    """Set and keep the thresholds from which something is said, and the scale of the total, on validation pictures.

    Args:
        tower: sees them.
        validation: crops and scenes.
        path: JSON file that keeps the result.
        whole: what judge_whole returns.
    """
    logits = judge(tower, validation, np.arange(len(validation)))
    labels = validation.labels.astype(np.float64)
    named = find_thresholds(logits, labels, whole, false_alarms=FALSE_ALARMS)
    ordinary = np.isnan(validation.layout).all(1) & (labels.max(1) == 0)
    made = ~np.isnan(validation.layout).any(1)
    placed = find_layout_thresholds(
        np.concatenate([logits[ordinary], whole]), logits[made], validation.layout[made].astype(float)
    )
    scale = find_scale(logits[:, TOTAL], total_fault(torch.from_numpy(labels)).numpy())
    print(f"total: slope {scale[0]:.2f}, offset {scale[1]:.2f}", flush=True)
    found = {"false_alarms": FALSE_ALARMS, "logits": [*named.tolist(), *placed.tolist()], "scale": scale}
    write_json(path, found)


def take_earlier(model: LlavaForConditionalGeneration, checkpoint: Path) -> None:
    """Start with the language model and the projector of an earlier checkpoint; the tower stays."""
    earlier = load_file(checkpoint / "model.safetensors")
    own = {plain_name(name): p for name, p in model.named_parameters() if is_taught(name)}
    wanted = {plain_name(name): weight for name, weight in earlier.items() if is_taught(name)}
    if {name: p.shape for name, p in own.items()} != {name: weight.shape for name, weight in wanted.items()}:
        raise ValueError(f"{checkpoint}: not this language model: {sorted(set(own) ^ set(wanted))}")
    with torch.no_grad():
        for name, weight in wanted.items():
            own[name].copy_(weight)


def is_taught(name: str) -> bool:
    """Tell whether a tensor belongs to what the language stage teaches."""
    return "vision_tower" not in name


def plain_name(name: str) -> str:
    """Return a tensor's name without what transformers puts in front, which is not the same in every version."""
    return ".".join(part for part in name.split(".") if part not in ("model", "language_model"))


def tower_from(plan: Plan, path: Path | None) -> FaultTower:
    """Return the tower with the weights in a file, or as it starts from its filters."""
    tower = build(crops.loud_filters(plan.cache, seed=plan.seed), plan.seed)
    if path:
        tower.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["model"])
    return tower


def teach_tower(plan: Plan, leg: int) -> None:
    """Train the tower, for the first time or once more from where that ended; one of several processes, or alone."""
    pictures, validation = (crops.Crops(plan.cache / f"crops-{split}-{plan.seed}") for split in ("train", "validation"))
    seed = plan.seed + leg
    tower = tower_from(plan, leg_path(plan, 0) if leg else plan.tower)
    torch.manual_seed(1000 * seed + rank())  # each process leaves out other filters
    steps = plan.leg_steps if leg else plan.tower_steps
    train_tower(tower, pictures, validation, leg_path(plan, leg), steps=steps, seed=seed)


def leg_path(plan: Plan, leg: int) -> Path:
    """Return where a leg of the tower's training is kept; the first has number 0."""
    return plan.state / f"tower-{leg}.pt"


def finished_tower(plan: Plan) -> FaultTower:
    """Return the mean of the towers at the ends of all legs.

    They lie in one valley of the loss, and their mean errs less than any of them on photographs that are new.
    Source: M. Wortsman et al., Model soups, 2022 (arXiv 2203.05482).
    """
    towers = [tower_from(plan, leg_path(plan, leg)) for leg in range(plan.legs + 1)]
    with torch.no_grad():
        for mean, *others in zip(*(tower.parameters() for tower in towers), strict=True):
            if mean.requires_grad:  # the filters are not learnt
                mean.copy_(torch.stack([mean, *others]).mean(0))
    return towers[0].eval()


def start_language(plan: Plan, lessons: Lessons) -> LlavaForConditionalGeneration:
    """Return the model that the language stage starts from, its projector primed with what the tower's head says."""
    tower = finished_tower(plan)
    some = torch.tensor(lessons.features[:: max(1, len(lessons.features) // 600)]).float()
    model = build_llava(tower, some[:64].reshape(-1, some.shape[-1]), plan.seed)
    if plan.language:
        take_earlier(model, plan.language)
    with torch.no_grad():
        reading = read_judgement(some[:, ::4], tower.judge(some).mean(1))
    thresholds = torch.tensor(json.loads((plan.state / "thresholds.json").read_text("utf-8"))["logits"])
    tokenizer = train_tokenizer(plan.state / "tokenizer.model", seed=plan.seed)
    words = [tokenizer.encode(name) for name in (*(NAMES[f] for f in FAULTS), *(LAYOUT_NAMES[k] for k in LAYOUT))]
    prime_projector(model, reading, thresholds, words, keep_words=plan.language is not None)
    return model


def teach_language(plan: Plan) -> None:
    """Train projector and language model; one of several processes, or the only one."""
    texts, lessons = Texts(train_tokenizer(plan.state / "tokenizer.model", seed=plan.seed)), lessons_from(plan.state)
    kept, steps = plan.state / "language.pt", plan.language_steps
    train_language(start_language(plan, lessons), lessons, texts, kept, steps=steps, seed=plan.seed)


def finished_language(plan: Plan) -> LlavaForConditionalGeneration:
    """Return the model that training ended with."""
    model = LlavaForConditionalGeneration(llava_config(tower_config()))
    model.load_state_dict(torch.load(plan.state / "language.pt", weights_only=True, map_location="cpu")["model"])
    return model


def train(plan: Plan, out: Path) -> None:
    """Run all stages."""
    times: dict[str, float] = {}
    seed, cache, state = plan.seed, plan.cache, plan.state
    state.mkdir(parents=True, exist_ok=True)
    with stage("photographs", times):
        found = photos.gather(cache, seed=seed)
        counts = {split: sum(p.split == split for p in found) for split in ("train", "validation", "test")}
        print(f"photographs: {counts}, subjects: {len(cutouts.gather(cache))}", flush=True)
    with stage("crops", times):
        pictures, validation = (
            crops.Crops(crops.make_crops(cache, split, n, seed=seed, workers=plan.processes))
            for split, n in (("train", plan.parts), ("validation", N_VALIDATION_PARTS))
        )
    with stage("tower", times):
        for leg in range(plan.legs + 1):
            together(plan.processes, teach_tower, plan, leg)
        tower = finished_tower(plan)
    with stage("thresholds", times):
        calibrate(tower, validation, state / "thresholds.json", judge_whole(tower, cache, seed=seed))
    with stage("lessons", times):
        tower.eval()
        if not looked(state, tower):
            look_at(tower, cache, pictures, state, n_pictures=plan.pictures, seed=seed)
    with stage("tokenizer", times):
        if plan.language:
            shutil.copyfile(plan.language / "tokenizer.model", state / "tokenizer.model")
        train_tokenizer(state / "tokenizer.model", seed=seed)
    with stage("language", times):
        together(plan.processes, teach_language, plan)
    save_checkpoint(finished_language(plan), state / "tokenizer.model", out)
    for table in ("provenance.json", "cutouts.json"):
        shutil.copyfile(cache / table, out / table)
    record = {
        "seconds": times, "seed": seed, "processes": plan.processes,
        "tower_steps": [plan.tower_steps, *[plan.leg_steps] * plan.legs],
        "language_steps": plan.language_steps, "n_crops": plan.parts * crops.PER_PART, "photographs": counts,
        "started_from": [str(path.name) for path in (plan.tower, plan.language) if path],
    }  # fmt: skip
    (out / "training.json").write_text(json.dumps(record, indent=1), "utf-8")
    print(f"checkpoint: {out}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="packages, photographs, crops, training state")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--tower-steps", type=int, default=2200, help="of 60 pictures in each process")
    parser.add_argument("--legs", type=int, default=3, help="more legs from there; the tower is the mean of all ends")
    parser.add_argument("--leg-steps", type=int, default=600, help="of each of them")
    parser.add_argument("--language-steps", type=int, default=3000, help="of 12 pictures in each process")
    parser.add_argument("--parts", type=int, default=100, help="training crops in hundreds, each in six versions")
    parser.add_argument("--pictures", type=int, default=12000, help="training crops that are talked about")
    parser.add_argument("--tower", type=Path, help="training/tower-0.pt of an earlier run, to start from")
    parser.add_argument("--language", type=Path, help="checkpoint whose language model and projector to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="that make crops, and train with shared gradients")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in each process")
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    torch.set_num_threads(options.pop("threads"))
    train(Plan(**options), out)


if __name__ == "__main__":
    main()
