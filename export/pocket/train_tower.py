"""Teach the two heads behind the network: what people think of a photograph, and which faults spoil it.

Nothing is trained on photographs that are kept for tests; thresholds are set on validation photographs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from . import faults
from .faults import FAULTS
from .image_statistics import N_STATISTICS
from .tower import INNER_CHANNELS, N_MAPS, FaultHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .features import Spoilt
    from .tower import Perceptron, Tower


class Regularisation(NamedTuple):
    """What keeps a part of the head of the faults from learning its few thousand pictures by heart."""

    noise: float
    """In standard deviations of a feature."""
    dropped: float
    """Share of the hidden units; of the features, two thirds of it."""
    epochs: int


FloatArray = npt.NDArray[np.float32]
OF_MAPS, OF_STATISTICS = Regularisation(0.15, 0.5, 40), Regularisation(0.1, 0.3, 30)
N_FOLDS = 6
RIDGES = (0.05, 0.1, 0.2)
N_PARTS = 3
"""Parts of the pictures that the head, taught with the others, judges as if they were new."""
SHARES_OF_MAPS = (0.0, 0.25, 0.5, 0.75, 1.0)
TRIED_ALARMS = (0.005, 0.01, 0.02, 0.04)
"""How much the maps may count, and the shares of clean pictures at which that is tried."""
MILD, MODERATE_WORTH = (0.3, 0.5, 0.6), 0.4
"""Strengths that are taken for moderate, and from which a fault is strong; what finding a moderate one is worth."""
FALSE_ALARMS, LIKED_ALARMS = 0.04, 0.35
"""Shares of the clean pictures, and of photographs that people rate high, in which a fault may be named."""
SHARES = (0.0, 0.003, 0.006, 0.009, 0.012, 0.018, 0.024, 0.036, 0.05, 0.07)
"""Of clean pictures, that the threshold of one fault may let through: what the search tries."""
MORE_WORTH = 0.3
"""What finding one of the faults beside the main ones is worth in that search."""
LIKED_FROM = 0.7
"""Opinion from which a photograph is rated high."""
COST = 0.03
"""Of the opinion, for each logit that a fault is beyond the one from which it is named."""
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
    print(f"opinions: ridge {best}, rank correlation {correlation:.3f} (left out)", flush=True)
    return held


def teach_faults(head: FaultHead, outputs: Tensor, strengths: Tensor, *, seed: int = 0) -> None:
    """Train the head of the faults on spoilt pictures; a strength that is not a number is not known."""
    torch.manual_seed(seed)
    maps, statistics = outputs.split((N_MAPS, N_STATISTICS), 1)
    _teach_part(head.maps, maps, strengths, OF_MAPS)
    _teach_part(head.statistics, statistics, strengths, OF_STATISTICS)


def _teach_part(part: Perceptron, features: Tensor, strengths: Tensor, how: Regularisation) -> None:
    part.standardised.set(features)
    for layer in (part.first, part.second):
        layer.reset_parameters()
    known, wanted = ~torch.isnan(strengths), torch.nan_to_num(strengths).clamp(0, 1)
    optimizer = torch.optim.AdamW(part.parameters(), lr=2e-3, weight_decay=0.05)
    size = min(128, len(features))
    steps, step = how.epochs * (len(features) // size), 0
    for _ in range(how.epochs):
        for rows in torch.randperm(len(features))[: len(features) // size * size].split(size):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
            noisy = features[rows] + how.noise * torch.randn(size, features.shape[1]) / part.standardised.scale
            each = nn.functional.binary_cross_entropy_with_logits(
                part(noisy, how.dropped), wanted[rows], reduction="none"
            )
            optimizer.zero_grad()
            (10 * (each * known[rows]).sum() / known[rows].sum()).backward()
            optimizer.step()
            step += 1


def logits_of_new(spoilt: Spoilt, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the logits of both parts of the head for every picture, as if its photograph were new, [n, FAULTS] each.

    What a head has seen in training, it judges too well for thresholds; so heads are taught with the other photographs.
    """
    part_of = torch.from_numpy(np.random.default_rng(seed).integers(N_PARTS, size=int(spoilt.photo.abs().max()) + 1))
    part = part_of[spoilt.photo.abs() - (spoilt.photo < 0).long()]
    found = tuple(torch.zeros_like(spoilt.strengths) for _ in range(2))
    for k in range(N_PARTS):
        head, new = FaultHead(), part == k
        teach_faults(head, spoilt.outputs[~new], spoilt.strengths[~new], seed=seed)
        with torch.no_grad():
            for logits, seen in zip(found, head.both(spoilt.outputs[new]), strict=True):
                logits[new] = seen
    return found[0], found[1]


@torch.no_grad()
def set_share(head: FaultHead, new: tuple[Tensor, Tensor], strengths: Tensor) -> None:
    """Set how much the maps and the statistics count for each fault: what finds most of it at few false alarms."""
    maps, statistics = new
    clean, alone = (strengths == 0).all(1), (torch.nan_to_num(strengths) > 0).sum(1) == 1
    low, high, strong = MILD
    for k in range(len(FAULTS)):
        mine = alone & ~torch.isnan(strengths[:, k])
        levels = ((mine & (strengths[:, k] > low) & (strengths[:, k] < high), MODERATE_WORTH),
                  (mine & (strengths[:, k] > strong), 1.0))  # fmt: skip

        def worth(share: float, k: int = k, levels: tuple[tuple[Tensor, float], ...] = levels) -> float:
            logits = share * maps[:, k] + (1 - share) * statistics[:, k]
            from_ = torch.quantile(logits[clean], 1 - torch.tensor(TRIED_ALARMS))
            found = [w * (logits[rows, None] > from_).float().mean() for rows, w in levels if rows.any()]
            return float(sum(found))

        head.share[k] = max(SHARES_OF_MAPS, key=worth)


@torch.no_grad()
def set_costs(tower: Tower, held: Tensor, logits: Tensor, opinions: Tensor) -> None:
    """Set what faults cost, and with that the scale on which people's opinions come out.

    Args:
        tower: changed.
        held: what each rated photograph was held to be when it was left out, [n].
        logits: of the head of the faults, [n, FAULTS].
        opinions: [n], 0 to 1.
    """
    tower.cost.fill_(COST)
    left = (held - tower.costs(logits)).numpy()
    tower.scale.copy_(torch.tensor(true_scale(left, opinions.numpy())))
    print(f"opinions less faults: rank correlation {rank_correlation(left, opinions):.3f} (left out)", flush=True)


@torch.no_grad()
def set_knots(tower: Tower, logits: Tensor, rows: Sequence[tuple[str, float]], liked: Tensor) -> None:
    """Set from when each fault is named, and from when it is clear and severe, on pictures that are new to the head.

    As many strong faults as possible are found while at most FALSE_ALARMS of the clean pictures have any fault named.

    Args:
        tower: changed.
        logits: of the head of the faults, [n, FAULTS].
        rows: fault and strength of each picture; the fault is empty if it is clean.
        liked: logits of photographs that people rate high, [m, FAULTS].
    """
    named, of, strength = logits.numpy(), np.array([f for f, _ in rows]), np.array([s for _, s in rows])
    sets = (named[of == ""], liked.numpy())
    clean = np.concatenate(sets)
    strong = [named[(of == f) & (strength == faults.STRONG), k] for k, f in enumerate(FAULTS)]
    worth = [1.0 if f in faults.MAIN_FAULTS else MORE_WORTH for f in FAULTS]
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
                    options.append((worth[k] * gain / max(cost - now, 1e-4), after))
        if not options:
            break
        at = max(options, key=lambda option: option[0])[1]
    main = [float((strong[k] > steps[at[k], k]).mean()) for k in range(faults.N_MAIN)]
    called = float((sets[0] > steps[at, columns]).any(1).mean())
    print(f"faults: {np.mean(main):.3f} of the main ones found, {called:.3f} of the clean called faulty", flush=True)
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
