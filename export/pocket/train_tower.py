"""Train the tower to read fault strengths from pixels, and write its features for the language stage.

It knows cached crops and the tower; it does not know words.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from .crops import PER_CROP
from .faults import FAULTS
from .progress import resume, save, set_rate
from .tower import FaultTower, normalise, start_tower, tower_config

if TYPE_CHECKING:
    from pathlib import Path

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.float32]


def read_crops(folder: Path) -> tuple[Pixels, Labels]:
    """Return memory-mapped pixels uint8 [n, 224, 224, 3] and strengths float32 [n, faults]."""
    return np.load(folder / "pixels.npy", mmap_mode="r"), np.load(folder / "labels.npy")


def total_fault(labels: Tensor) -> Tensor:
    """Return how spoilt a photograph is altogether, 0..1, rising with every strength."""
    return 1 - (1 - 0.9 * labels).prod(-1)


def build(width: int, n_layers: int, pixels: Pixels, seed: int) -> FaultTower:
    """Return a tower that starts from clean crops: the first version of each."""
    torch.manual_seed(seed)
    model = CLIPVisionModel(tower_config(width, n_layers))
    clean = normalise(torch.from_numpy(np.array(pixels[: 256 * PER_CROP : PER_CROP])))
    start_tower(model, clean)
    return FaultTower(model, len(FAULTS))


def loss_of(tower: FaultTower, pixels: Tensor, labels: Tensor) -> Tensor:
    """Strengths from the pooled head and from every patch, and the order of the versions of one crop."""
    pooled, local = tower(normalise(pixels))
    total = total_fault(labels)
    target = torch.cat([labels, total[:, None]], 1)
    bce = nn.functional.binary_cross_entropy_with_logits
    loss = bce(pooled.float(), target) + 0.3 * bce(local.float(), labels[:, None].expand(-1, local.shape[1], -1))
    rank, truth = pooled[:, -1].float().view(-1, PER_CROP), total.view(-1, PER_CROP)
    above = truth[:, :, None] - truth[:, None, :]
    margin = nn.functional.softplus(-(rank[:, :, None] - rank[:, None, :])) * above.clamp(min=0)
    return loss + 0.2 * margin.mean()


def area_under_curve(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve."""
    ranks = scores.argsort().argsort() + 1.0
    n_true = int(truth.sum())
    return float((ranks[truth].sum() - n_true * (n_true + 1) / 2) / max(1, n_true * (len(truth) - n_true)))


@torch.no_grad()
def validate(tower: FaultTower, pixels: Pixels, labels: Labels) -> str:
    """Return one line: area under the curve per fault (0.3 and up against none), pairs of one crop ranked rightly."""
    tower.eval()
    logits = []
    for i in range(0, len(labels), 100):
        with torch.autocast("cpu", torch.bfloat16):
            logits.append(tower(normalise(torch.from_numpy(np.array(pixels[i : i + 100]))))[0].float())
    tower.train()
    out = torch.cat(logits).double().numpy()
    areas = []
    for k, fault in enumerate(FAULTS):
        use = (labels[:, k] == 0) | (labels[:, k] >= 0.3)
        areas.append(f"{fault} {area_under_curve(out[use, k], labels[use, k] > 0):.2f}")
    total = out[:, -1].reshape(-1, PER_CROP)
    pairs = total[:, 1:] > total[:, :1]
    strong = labels.max(1).reshape(-1, PER_CROP)[:, 1:] >= 0.4
    return f"pairs {pairs.mean():.3f}, of 0.4 and up {pairs[strong].mean():.3f} | " + ", ".join(areas)


def train_tower(
    tower: FaultTower,
    train: tuple[Pixels, Labels],
    validation: tuple[Pixels, Labels],
    checkpoint: Path,
    *,
    minutes: float,
    rate: float = 2e-3,
    groups: int = 8,
    seed: int = 0,
) -> None:
    """Train for `minutes` resumed from `checkpoint` if it is there; a batch is `groups` crops in all versions."""
    pixels, labels = train
    decay = [p for p in tower.parameters() if p.ndim > 1]
    flat = [p for p in tower.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": flat, "weight_decay": 0}],
                                  lr=rate, betas=(0.9, 0.98))  # fmt: skip
    spent, step = resume(checkpoint, tower, optimizer)
    rng = np.random.default_rng((seed, step))
    start, last_save, running = time.monotonic() - spent, time.monotonic(), 0.0
    n_groups = len(labels) // PER_CROP
    order, at = rng.permutation(n_groups), 0
    while (spent := time.monotonic() - start) < 60 * minutes:
        if at + groups > n_groups:
            order, at = rng.permutation(n_groups), 0
        rows = (np.sort(order[at : at + groups])[:, None] * PER_CROP + np.arange(PER_CROP)).ravel()
        at += groups
        batch = torch.from_numpy(pixels[rows])
        if rng.random() < 0.5:
            batch = batch.flip(2)
        done = spent / (60 * minutes)
        set_rate(optimizer, rate, step=step, n_warm_up=100, done=done)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(tower, batch, torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        step += 1
        running = 0.98 * running + 0.02 * float(loss.detach()) if step > 1 else float(loss.detach())
        if step % 20 == 0:
            print(f"tower {spent:.0f}s step {step} seen {step * groups * PER_CROP} loss {running:.4f}", flush=True)
        if time.monotonic() - last_save > 240:
            print("  " + validate(tower, *validation), flush=True)
            save(checkpoint, tower, optimizer, spent, step)
            last_save = time.monotonic()
    print("tower done: " + validate(tower, *validation), flush=True)
    save(checkpoint, tower, optimizer, 60 * minutes, step)


@torch.no_grad()
def write_features(tower: FaultTower, pixels: Pixels, path: Path) -> npt.NDArray[np.float16]:
    """Write the features of all crops, float16 [n, 196, width], and return them memory-mapped."""
    tower.eval()
    width = tower.model.config.hidden_size
    unfinished = path.with_suffix(".new")
    out = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float16, shape=(len(pixels), 196, width))
    for i in range(0, len(pixels), 64):
        with torch.autocast("cpu", torch.bfloat16):
            features = tower.features(normalise(torch.from_numpy(np.array(pixels[i : i + 64]))))
        out[i : i + 64] = features.float().numpy().astype(np.float16)
        if i % 6400 == 0:
            print(f"features {i}/{len(pixels)}", flush=True)
    out.flush()
    unfinished.replace(path)
    return np.load(path, mmap_mode="r")
