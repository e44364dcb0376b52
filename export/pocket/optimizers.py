"""The optimizer of the language model: Muon for the matrices inside the layers, AdamW for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Coefficients of the iteration that brings every singular value near to 1. Source: K. Jordan."""
N_ITERATIONS = 5


def orthogonalized(gradients: Tensor) -> Tensor:
    """Return matrices [n, rows, columns] with the same singular vectors and singular values near 1.

    In float32: PyTorch's own Muon computes in bfloat16, which most processors only emulate, at twice the time.
    """
    a, b, c = NEWTON_SCHULZ
    wide = gradients.shape[1] <= gradients.shape[2]
    x = gradients if wide else gradients.mT
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(N_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonal matrices, as large as AdamW's.

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; the size of a step:
    J. Liu et al., Muon is scalable for LLM training, 2025.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, *, momentum: float = 0.95,
                 weight_decay: float = 0.05) -> None:  # fmt: skip
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault(tuple(p.shape), []).append(p)
            for (rows, columns), same in shapes.items():
                updates = [self._momentum(p, group["momentum"]) for p in same]
                size = 0.2 * max(rows, columns) ** 0.5
                for p, update in zip(same, orthogonalized(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * size * update)

    def _momentum(self, p: nn.Parameter, momentum: float) -> Tensor:
        gradient = cast("Tensor", p.grad)
        mean = self.state[p].setdefault("momentum", torch.zeros_like(p))
        mean.lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)


class Optimizers:
    """Several optimizers as one."""

    def __init__(self, hidden: Sequence[nn.Parameter], others: Sequence[nn.Parameter], rate: float) -> None:
        self.both: tuple[torch.optim.Optimizer, ...] = (
            Muon(hidden, rate),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.05),
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [group for one in self.both for group in one.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self.both:
            one.zero_grad()

    def step(self) -> None:
        """Change the weights."""
        for one in self.both:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both."""
        return {str(k): one.state_dict() for k, one in enumerate(self.both)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of both."""
        for k, one in enumerate(self.both):
            one.load_state_dict(state[str(k)])
