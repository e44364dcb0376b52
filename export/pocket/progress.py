"""Keep the state of a training run on disk, so that a run that was cut off goes on.

It knows weights, optimizer and how far a run has come; it does not know what is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


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
