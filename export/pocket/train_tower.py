"""Teach the two heads behind the network: what people think of a photograph, and which faults spoil it.

Nothing is trained on photographs that are kept for tests; thresholds are set on validation photographs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from . import faults
from .faults import FAULTS
from .tower import INNER_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tower import FaultHead, Tower

FloatArray = npt.NDArray[np.float32]
N_FOLDS = 6
RIDGES = (0.05, 0.1, 0.2)
NOISE, DROPPED = 0.15, 0.5
"""What keeps the head of the faults from learning its few thousand pictures by heart."""
FALSE_ALARMS, LIKED_ALARMS = 0.09, 0.35
"""Shares of the clean validation photographs, and of those that people rate high, in which a fault may be named."""
SHARES = (0.0, 0.006, 0.012, 0.018, 0.024, 0.036, 0.05)
"""Of clean pictures, that the threshold of one fault may let through: what the search tries."""
LIKED_FROM = 0.7
"""Opinion from which a photograph is rated high."""
LOST, ORDER_WEIGHT = 0.3, 0.3
"""What a fault of strength 1 takes from the opinion at least; how much a spoilt picture weighs against an opinion."""


def ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the rank of each value, from 0."""
    return np.argsort(np.argsort(np.asarray(values))).astype(float)


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return Spearman's correlation (of values that hardly ever tie)."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


@torch.no_grad()
def teach_opinions(
    tower: Tower, inner: Tensor, opinions: Tensor, spoilt: tuple[Tensor, Tensor, Tensor], *, seed: int = 0
) -> Tensor:
    """Fit the head of people's opinions: what people think, and that whatever is spoilt is worth less.

    Of a spoilt picture, what it lost against its original is learnt: as much as people would take from it by what the
    rated photographs alone teach, at least LOST times its strength. For that the regression is made twice.

    Args:
        tower: changed.
        inner: pooled features of photographs that people rated, [n, N_INNER].
        opinions: [n], 0 to 1.
        spoilt: pooled features of pictures and of copies that are spoilt more [m, N_INNER], and by how much [m].
        seed: of the folds.

    Returns:
        What each rated photograph was held to be when it was left out, [n].
    """
    head = tower.opinion_features
    head.set(inner)
    blocks = [2 * channels for channels in INNER_CHANNELS]
    balance = torch.cat([torch.full((size,), (size * len(blocks)) ** -0.5) for size in blocks])
    original, copy, strength = spoilt
    rows = torch.cat([head(inner), head(original) - head(copy)]) * balance
    kernel, mean, n = (rows @ rows.T).double(), float(opinions.mean()), len(inner)
    trust = torch.cat([torch.ones(n), torch.full((len(strength),), ORDER_WEIGHT)]).double()

    def solved(chosen: Tensor, wanted: Tensor, penalty: float) -> Tensor:
        own = kernel[chosen][:, chosen] + torch.diag(penalty / trust[chosen])
        return torch.linalg.solve(own, wanted[chosen])

    everything, rated = torch.arange(len(rows)), torch.arange(n)
    fold = torch.from_numpy(np.random.default_rng(seed).integers(N_FOLDS, size=n))
    tried = {}
    for penalty in RIDGES:
        wanted = torch.cat([opinions - mean, torch.zeros(len(strength))]).double()
        lost = kernel[n:, :n] @ solved(rated, wanted, penalty)
        wanted[n:] = torch.maximum(lost, LOST * strength.double())
        held = torch.zeros(n)
        for k in range(N_FOLDS):
            others = torch.cat([rated[fold != k], everything[n:]])
            held[fold == k] = (kernel[:n][fold == k][:, others] @ solved(others, wanted, penalty)).float() + mean
        tried[penalty] = (rank_correlation(held, opinions), wanted, held)
    best = max(tried, key=lambda penalty: tried[penalty][0])
    correlation, wanted, held = tried[best]
    weights = (solved(everything, wanted, best).float() @ rows) * balance
    tower.opinion.weight.copy_(weights[None])
    tower.opinion.bias.fill_(mean)
    tower.scale.copy_(torch.tensor(true_scale(held.numpy(), opinions.numpy())))
    print(f"opinions: ridge {best}, rank correlation {correlation:.3f} (left out)", flush=True)
    return held


def teach_faults(head: FaultHead, outputs: Tensor, strengths: Tensor, *, epochs: int = 40, seed: int = 0) -> None:
    """Train the head of the faults on spoilt pictures; a strength that is not a number is not known."""
    torch.manual_seed(seed)
    head.standardised.set(outputs)
    for layer in (head.first, head.second):
        layer.reset_parameters()
    known, wanted = ~torch.isnan(strengths), torch.nan_to_num(strengths).clamp(0, 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    size = min(128, len(outputs))
    steps, step = epochs * (len(outputs) // size), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(outputs))[: len(outputs) // size * size].split(size):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
            noisy = outputs[rows] + NOISE * torch.randn(size, outputs.shape[1]) / head.standardised.scale
            each = nn.functional.binary_cross_entropy_with_logits(head(noisy, DROPPED), wanted[rows], reduction="none")
            optimizer.zero_grad()
            (10 * (each * known[rows]).sum() / known[rows].sum()).backward()
            optimizer.step()
            step += 1


@torch.no_grad()
def set_knots(tower: Tower, logits: Tensor, fault: Sequence[str], strength: FloatArray, liked: Tensor) -> None:
    """Set from when each fault is named, and from when it is clear and severe, on validation pictures.

    As many strong faults as possible are found while at most FALSE_ALARMS of the clean pictures have any fault named.

    Args:
        tower: changed.
        logits: of the head of the faults, [n, FAULTS].
        fault: of each picture; empty if it is clean.
        strength: of each picture.
        liked: logits of photographs that people rate high, [m, FAULTS].
    """
    named, of = logits.numpy(), np.array(fault)
    sets = (named[of == ""], liked.numpy())
    clean = np.concatenate(sets)
    strong = [named[(of == f) & (strength == faults.STRONG), k] for k, f in enumerate(FAULTS)]
    steps = np.quantile(clean, [1 - share for share in SHARES], axis=0)
    steps[0] = clean.max(0) + 0.05
    at = np.zeros(len(FAULTS), int)
    columns = np.arange(len(FAULTS))

    def alarms(chosen: npt.NDArray[np.int64]) -> float:
        shares = (float((mine > steps[chosen, columns]).any(1).mean()) for mine in sets)
        return max(share / budget for share, budget in zip(shares, (FALSE_ALARMS, LIKED_ALARMS), strict=True))

    while True:
        now = alarms(at)
        options = []
        for k in range(len(FAULTS)):
            for further in range(at[k] + 1, len(SHARES)):
                after = at.copy()
                after[k] = further
                cost = alarms(after)
                gain = float((strong[k] > steps[further, k]).mean() - (strong[k] > steps[at[k], k]).mean())
                if cost <= 1 and gain > 0:
                    options.append((gain / max(cost - now, 1e-4), after))
        if not options:
            break
        at = max(options, key=lambda option: option[0])[1]
    for k, f in enumerate(FAULTS):
        moderate = named[(of == f) & (strength == faults.MODERATE), k]
        middle, far = float(np.median(moderate)), float(np.median(strong[k]))
        start = float(steps[at[k], k])
        clear = max(start + 0.4, middle)
        tower.knots[k] = torch.tensor([start, clear, max(clear + 0.4, 0.4 * middle + 0.6 * far)])


def true_scale(values: FloatArray, opinions: FloatArray) -> tuple[float, float]:
    """Return slope and offset of the logit that fit people's opinions best. Source: J. Platt, 1999."""
    from scipy.optimize import minimize

    def loss(line: npt.NDArray[np.float64]) -> float:
        scaled = line[0] * values + line[1]
        return float(np.mean(np.logaddexp(0, scaled) - opinions * scaled))

    slope, offset = minimize(loss, np.array([4.0, -2.0])).x
    return float(slope), float(offset)
