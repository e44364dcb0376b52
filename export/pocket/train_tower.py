"""Train the tower to read fault strengths from what its filters see.

It knows cached crops and the tower; it does not know words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from .crops import N_PATCHES, PER_CROP, Crops
from .faults import FAULTS, MAIN_FAULTS
from .impression import FIRST_OF_LAYOUT, TOTAL
from .progress import device, rank, resume, save, set_rate, share_gradients
from .scenes import LAYOUT
from .tower import FaultTower, start_tower, tower_config

if TYPE_CHECKING:
    from pathlib import Path

Numbers = npt.NDArray[np.float64]
N_FAULTS = len(FAULTS)
THERE, NEARLY = 0.22, 0.08
"""A fault this strong is there; between the two it is neither there nor away."""
ALL_PATCHES_FROM = 0.9
"""Share of the steps after which the tower sees every patch; before, random halves, which is faster."""
ORDER_WEIGHT = 0.6
DECAY = 0.1
"""Of weights: the photographs are few, and the tower knows them by heart with less."""
LAYOUT_WEIGHT = 0.25
FALSE_ALARMS = 0.01
"""Of clean pictures, per fault: where thresholds are set."""


def total_fault(labels: Tensor) -> Tensor:
    """Return how spoilt a photograph is altogether, 0..1, rising with every strength."""
    return 1 - (1 - 0.9 * labels).prod(-1)


def build(filters: npt.NDArray[np.float32], seed: int) -> FaultTower:
    """Return a tower that starts from the filters."""
    torch.manual_seed(seed)
    model = CLIPVisionModel(tower_config())
    start_tower(model, filters)
    return FaultTower(model)


@dataclass
class Truth:
    """What is known of the pictures of a batch, float32."""

    labels: Tensor
    """Strengths, [n, faults]."""
    known: Tensor
    """1 where the strength is known, [n, faults]."""
    layout: Tensor
    """Composition, [n, LAYOUT], not a number where it is not known."""

    def to(self, place: torch.device) -> Truth:
        """Return it on a device."""
        return Truth(self.labels.to(place), self.known.to(place), self.layout.to(place))


def loss_of(tower: FaultTower, rows: Tensor, truth: Truth, patches: Tensor) -> Tensor:
    """Strengths and presence, of the picture and from every patch, composition, and the order of the versions."""
    whole, local = (logits.float() for logits in tower(rows, patches))
    labels, known = truth.labels, truth.known
    total = total_fault(labels)
    there = (labels >= THERE).float()
    target = torch.cat([labels, there, total[:, None]], 1)
    decided = ((labels <= NEARLY) | (labels >= THERE)).float()
    weight = torch.cat([known, known * decided, torch.ones_like(total[:, None])], 1)
    bce = nn.functional.binary_cross_entropy_with_logits
    judged, each = whole[:, :FIRST_OF_LAYOUT], local[..., :FIRST_OF_LAYOUT]
    loss = bce(judged, target, weight)
    loss = loss + 0.4 * bce(each, target[:, None].expand_as(each), weight[:, None].expand_as(each))
    if (of_scenes := ~truth.layout.isnan().any(1)).any():
        loss = loss + LAYOUT_WEIGHT * bce(whole[of_scenes, FIRST_OF_LAYOUT:], truth.layout[of_scenes])
    told, wanted = whole[:, TOTAL].view(-1, PER_CROP), total.view(-1, PER_CROP)
    above = wanted[:, :, None] - wanted[:, None, :]
    margin = nn.functional.softplus(-(told[:, :, None] - told[:, None, :])) * above.clamp(min=0).sqrt()
    return loss + ORDER_WEIGHT * margin.mean()


@torch.no_grad()
def judge(tower: FaultTower, crops: Crops, indices: npt.NDArray[np.int64]) -> Numbers:
    """Return the head's logits of some pictures, [n, N_OUT]."""
    tower.eval()
    place, found = tower.head.weight.device, []
    for i in range(0, len(indices), 60):
        rows = torch.from_numpy(crops.take(indices[i : i + 60])).to(place)
        with torch.autocast(place.type, torch.bfloat16):
            found.append(tower(rows)[0].float().cpu())
    tower.train()
    return torch.cat(found).double().numpy()


def thresholds(there: Numbers, clean: npt.NDArray[np.bool_], false_alarms: float = FALSE_ALARMS) -> Numbers:
    """Return, per fault, the logit that this share of clean pictures exceeds."""
    return np.asarray(np.quantile(there[clean], 1 - false_alarms, axis=0))


def validate(tower: FaultTower, crops: Crops) -> str:
    """Return figures at thresholds set on the same clean pictures: optimistic, for watching a run."""
    logits, labels = judge(tower, crops, np.arange(len(crops))), crops.labels
    there, total = logits[:, N_FAULTS : 2 * N_FAULTS], logits[:, TOTAL].reshape(-1, PER_CROP)
    clean = labels.max(1) == 0
    seen = there > thresholds(there, clean)
    alone = (labels > 0).sum(1) == 1
    words = []
    pairs: dict[str, list[float]] = {"strong": [], "moderate": []}
    named: dict[str, list[float]] = {"strong": [], "moderate": []}
    for k, fault in enumerate(FAULTS):
        cells = []
        for level, (low, high) in {"moderate": (0.3, 0.5), "strong": (0.7, 0.9)}.items():
            use = alone & (labels[:, k] >= low) & (labels[:, k] <= high)
            ranked = (total > total[:, :1]).ravel()[use]
            if fault in MAIN_FAULTS:
                pairs[level].append(float(ranked.mean()))
                named[level].append(float(seen[use, k].mean()))
            cells.append(f"{100 * ranked.mean():.0f}/{100 * seen[use, k].mean():.0f}")
        words.append(f"{fault} {' '.join(cells)}")
    means = ", ".join(f"{level}: pairs {100 * np.mean(pairs[level]):.1f} named {100 * np.mean(named[level]):.1f}"
                      for level in pairs)  # fmt: skip
    words += [f"{name} {100 * figure:.0f}" for name, figure in layout_figures(logits, crops).items()]
    return f"{means}, clean called faulty {100 * seen[clean].any(1).mean():.1f} | " + ", ".join(words)


def layout_figures(logits: Numbers, crops: Crops) -> dict[str, float]:
    """Return how often a scene with a trait gets more than one without, per trait of the composition."""
    found = {}
    for k, name in enumerate(LAYOUT):
        has, lacks = (logits[crops.layout[:, k] == value, FIRST_OF_LAYOUT + k] for value in (1, 0))
        found[name] = float((has[:, None] > lacks[None]).mean()) if len(has) and len(lacks) else float("nan")
    return found


def truth_of(crops: Crops, indices: npt.NDArray[np.int64]) -> Truth:
    """Return what is known of some pictures."""
    labels, known = torch.from_numpy(crops.labels[indices]), torch.from_numpy(crops.known[indices]).float()
    return Truth(labels, known, torch.from_numpy(crops.layout[indices]))


def train_tower(
    tower: FaultTower,
    train: Crops,
    validation: Crops,
    checkpoint: Path,
    *,
    steps: int,
    rate: float = 1.5e-3,
    groups: int = 10,
    seed: int = 0,
) -> None:
    """Train for `steps` resumed from `checkpoint` if it is there; a batch is `groups` crops in all versions."""
    place = device()
    tower.to(place)
    learnt = [p for p in tower.parameters() if p.requires_grad]
    decay, flat = [p for p in learnt if p.ndim > 1], [p for p in learnt if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": DECAY}, {"params": flat, "weight_decay": 0}],
                                  lr=rate, betas=(0.9, 0.98))  # fmt: skip
    step = resume(checkpoint, tower, optimizer)
    start, running = time.process_time(), 0.0
    while step < steps:
        rng = np.random.default_rng((seed, step, rank()))
        train.look_again()
        picked = rng.integers(len(train) // PER_CROP, size=groups)
        indices = (np.sort(picked)[:, None] * PER_CROP + np.arange(PER_CROP)).ravel()
        rows, truth = train.take(indices), truth_of(train, indices).to(place)
        n_patches = N_PATCHES if step >= ALL_PATCHES_FROM * steps else N_PATCHES // 2
        patches = np.sort(rng.permutation(N_PATCHES)[:n_patches])
        set_rate(optimizer, rate, step=step, n_warm_up=100, done=step / steps)
        seen, where = (torch.from_numpy(array).to(place) for array in (rows[:, patches], patches))
        with torch.autocast(place.type, torch.bfloat16):
            loss = loss_of(tower, seen, truth, where)
        optimizer.zero_grad()
        loss.backward()
        share_gradients(learnt)
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        step += 1
        running = 0.98 * running + 0.02 * float(loss.detach()) if running else float(loss.detach())
        if step % 50 == 0:
            spent = f"{time.process_time() - start:.0f} s of processor"
            print(f"tower step {step} of {steps} ({spent}) {running:.4f}", flush=True)
        if step % 400 == 0 or step == steps:
            if rank() == 0:
                print("  " + validate(tower, validation), flush=True)
            save(checkpoint, tower, optimizer, step)
    print("tower done", flush=True)


@torch.no_grad()
def features_of(tower: FaultTower, crops: Crops, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
    """Return features of some pictures, float16 [n, N_PATCHES, width]."""
    found = []
    for i in range(0, len(indices), 60):
        with torch.autocast("cpu", torch.bfloat16):
            features = tower.features_of_rows(torch.from_numpy(crops.take(indices[i : i + 60])))
        found.append(features.float().numpy().astype(np.float16))
    return np.concatenate(found)
