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

import torch
from PIL import Image

from . import photos
from .efficientnet import EfficientNetLite0, pretrained
from .features import PER_PART, WHOLE, Extractor, whole_labels, whole_pictures, whole_rows, with_whole
from .judgement import JudgementCode
from .model import save_checkpoint
from .opinions import RatedPhoto, read_opinions
from .progress import beside
from .tokenizer import train_tokenizer
from .tower import Tower
from .train_language import WIDTH, LanguageModel, Texts, train_language
from .train_tower import (
    LIKED_FROM,
    logits_of_new,
    set_costs,
    set_knots,
    set_share,
    teach_faults,
    teach_opinions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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


def teach_tower(plan: Plan, rated: Sequence[RatedPhoto]) -> Tower:
    """Return the tower with its heads taught and set."""
    seed, cache = plan.seed, plan.cache
    network = pretrained()
    tower = Tower(network, JudgementCode(WIDTH))
    extract = Extractor(tower.pooled, plan.state / "pooled.onnx")
    spoilt = extract.spoilt(cache, rated, plan.parts, seed=seed)
    of_rated = extract.kept(plan.state / "rated.npz", (Image.open(r.path).convert("RGB") for r in rated))
    whole, seen = (
        extract.kept(plan.state / f"{name}.npz", whole_pictures(cache, split))[0]
        for name, split in (("whole", "train"), ("validation", "validation"))
    )
    opinions = torch.tensor([r.opinion for r in rated])
    order = (spoilt.inner[spoilt.better], spoilt.inner[spoilt.worse], spoilt.gap)
    held = teach_opinions(tower, of_rated[1], opinions, order, seed=seed)
    taught = with_whole(spoilt, whole)
    new = logits_of_new(taught, seed=seed)
    teach_faults(tower.faults, taught.outputs, taught.strengths, seed=seed)
    n = {split: sum(p.split == split for p in photos.gather(cache)) for split in WHOLE}
    set_share(tower.faults, new, torch.cat([spoilt.strengths, whole_labels(n["train"])]))
    tower.eval()
    with torch.no_grad():
        as_new = torch.lerp(new[1], new[0], tower.faults.share)
        of_parts, of_whole = as_new.split((len(spoilt.outputs), len(whole)))
        clean = of_parts[(spoilt.strengths == 0).all(1)]
        rows = [*len(clean) * [("", 0.0)], *whole_rows("train", n["train"]), *whole_rows("validation", n["validation"])]
        rated_logits = tower.faults(of_rated[0])
        set_knots(tower, torch.cat([clean, of_whole, tower.faults(seen)]), rows, rated_logits[opinions >= LIKED_FROM])
        set_costs(tower, held, rated_logits, opinions)
    return tower


def taught_tower(plan: Plan, rated: Sequence[RatedPhoto]) -> Tower:
    """Return the tower, from the cache if it was taught before."""
    path = plan.state / "tower.pt"
    if not path.exists():
        torch.save(teach_tower(plan, rated).state_dict(), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    tower = Tower(EfficientNetLite0(), JudgementCode(WIDTH))
    tower.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return tower.eval()


def teach_language(plan: Plan) -> None:
    """Train the language model; one of several processes, or the only one."""
    texts = Texts(train_tokenizer(plan.state / "tokenizer.model", seed=plan.seed))
    train_language(
        LanguageModel(plan.seed), texts, plan.state / "language.pt", steps=plan.language_steps, seed=plan.seed
    )


def trained_language_model(plan: Plan) -> LanguageModel:
    """Return the language model that training ended with."""
    language_model = LanguageModel()
    language_model.load_state_dict(
        torch.load(plan.state / "language.pt", weights_only=True, map_location="cpu")["model"]
    )
    return language_model.eval()


def train(plan: Plan, out: Path) -> None:
    """Run all stages."""
    times: dict[str, float] = {}
    plan.state.mkdir(parents=True, exist_ok=True)
    with stage("language", times):
        train_tokenizer(plan.state / "tokenizer.model", seed=plan.seed)
        with beside(plan.processes, teach_language, plan):  # it needs no picture
            with stage("photographs", times):
                found = photos.gather(plan.cache, plan.cq100, seed=plan.seed)
                rated = [r for r in read_opinions(plan.clive) if not r.is_test]
                counts = {split: sum(p.split == split for p in found) for split in ("train", "validation", "test")}
                print(f"photographs: {counts}, rated: {len(rated)}", flush=True)
            with stage("tower", times):
                tower = taught_tower(plan, rated)
    language_model = trained_language_model(plan)
    tower.code.load_state_dict(language_model.code.state_dict())
    save_checkpoint(tower, language_model, plan.state / "tokenizer.model", out)
    shutil.copyfile(plan.cache / "provenance.json", out / "provenance.json")
    record = {
        "seconds": times, "seed": plan.seed, "processes": plan.processes, "language_steps": plan.language_steps,
        "n_pictures": plan.parts * PER_PART, "n_whole": len(whole_rows("train", counts["train"])),
        "photographs": counts, "n_rated": len(rated),
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
    parser.add_argument(
        "--language-steps", type=int, default=1700, help="of 8 drawn judgements, shared among the processes"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that train the language with shared gradients")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in each process")
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    torch.set_num_threads(options.pop("threads"))
    train(Plan(**options), out)


if __name__ == "__main__":
    main()
