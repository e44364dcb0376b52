"""Keep the state of a training run on disk, so that a run that was cut off goes on.

It knows weights, optimizer and how far a run has come; it does not know what is trained.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def set_rate(optimizer: torch.optim.Optimizer, rate: float, *, step: int, n_warm_up: int, done: float) -> None:
    """Set the learning rate of a step: up over ``n_warm_up`` steps, then down a cosine to a fiftieth at ``done`` 1."""
    scale = min(1, (step + 1) / n_warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate * scale


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, spent: float, step: int) -> None:
    """Write the state whole or not at all; `spent` is training time in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[float, int]:
    """Restore a saved state if there is one; return the seconds spent and the steps made."""
    if not path.exists():
        return 0.0, 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return float(state["spent"]), int(state["step"])
