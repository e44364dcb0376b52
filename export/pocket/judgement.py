"""What pocket thinks of one photograph, and how a row of numbers tells it to the language model.

The vision graph ends with :class:`JudgementCode`: every image token holds the whole judgement. Whatever is said (a
score, a sentence, yes or no, a letter) is decided here, so that two answers about one photograph agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .colour_stats import LOOKS
from .faults import FAULTS
from .phrases import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

N_FAULTS = len(FAULTS)
LEAST, MOST = -4.0, 3.0
"""Range of a fault's margin: it is named above 0, slight below 1, severe from 2."""
STEEPNESS = 1.1
"""How steeply an attribute falls with the greatest margin of its faults; at 0 it is a half."""
LOUD = 4.0
"""How much louder than the rest the row says which faults are the first and the second."""
_QUALITY_STEPS = tuple(0.05 * k for k in range(1, 20))
_MARGIN_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
_ATTRIBUTE_STEPS = (0.2, 0.35, 0.5, 0.65, 0.75, 0.85, 0.93)
N_CODES = len(_QUALITY_STEPS) + 1 + N_FAULTS * (len(_MARGIN_STEPS) + 2) + len(ATTRIBUTES) * (len(_ATTRIBUTE_STEPS) + 3)
N_CODES += len(LOOKS)


@dataclass(frozen=True)
class Judgement:
    """What is thought of one photograph."""

    quality: float
    """The mean opinion that people are expected to have, 0 to 1."""
    margins: Mapping[str, float]
    """Fault to how far it is beyond the point from which it is named: slight from 0, clear from 1, severe from 2."""
    looks: Sequence[str] = ()
    """What plainly shows in the colors, see colour_stats.py."""

    @cached_property
    def faults(self) -> list[str]:
        """The faults that are named, the worst first."""
        return sorted((f for f, u in self.margins.items() if u > 0), key=lambda f: -self.margins[f])

    @cached_property
    def attributes(self) -> dict[str, float]:
        """Attribute to its score, 0 to 1: below a half where one of its faults is named."""
        greatest = (max(self.margins.get(f, LEAST) for f in faults) for faults in ATTRIBUTES.values())
        return {name: float(1 / (1 + np.exp(STEEPNESS * u))) for name, u in zip(ATTRIBUTES, greatest, strict=True)}

    @property
    def best(self) -> str:
        """The attribute with the highest score."""
        return max(self.attributes, key=lambda name: self.attributes[name])

    @property
    def worst(self) -> str:
        """The attribute with the lowest score."""
        return min(self.attributes, key=lambda name: self.attributes[name])


def label_probabilities(quality: float) -> tuple[float, float, float]:
    """Return the probabilities of High, Medium and Low whose score is 10 times this; each is likeliest in a third."""
    return quality**2, 2 * quality * (1 - quality), (1 - quality) ** 2


def attribute_scores(margins: Tensor) -> Tensor:
    """Return the scores of the attributes, [n, ATTRIBUTES], from margins [n, FAULTS]."""
    greatest = [margins[:, [FAULTS.index(f) for f in faults]].amax(1) for faults in ATTRIBUTES.values()]
    return torch.sigmoid(-STEEPNESS * torch.stack(greatest, 1))


class JudgementCode(nn.Module):
    """Turn judgements into rows that the language model reads: steps at what decides a sentence, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(N_CODES, width)
        self.second = nn.Linear(width, width)
        for name, steps in (("quality_steps", _QUALITY_STEPS), ("margin_steps", _MARGIN_STEPS),
                            ("attribute_steps", _ATTRIBUTE_STEPS)):  # fmt: skip
            self.register_buffer(name, torch.tensor(steps), persistent=False)

    def codes(self, quality: Tensor, margins: Tensor, looks: Tensor) -> Tensor:
        """Return the steps, [n, N_CODES].

        Args:
            quality: float32 [n].
            margins: float32 [n, FAULTS], from LEAST to MOST.
            looks: float32 [n, LOOKS], 0 or 1.
        """
        attributes = attribute_scores(margins)
        named = (margins > 0).float()
        ordered = margins - 1e-4 * torch.arange(N_FAULTS)  # of equals, the one that is listed first
        first = named * (ordered >= ordered.amax(1, keepdim=True)).float()
        rest = ordered - 99.0 * first
        second = named * (1 - first) * (rest >= rest.amax(1, keepdim=True)).float()
        of_margins = torch.sigmoid(12 * (margins.unsqueeze(2) - self.margin_steps)).flatten(1)
        of_attributes = torch.tanh(20 * (attributes.unsqueeze(2) - self.attribute_steps)).flatten(1)
        ends = [(attributes >= attributes.amax(1, keepdim=True)).float(),
                (attributes <= attributes.amin(1, keepdim=True)).float()]  # fmt: skip
        of_quality = torch.tanh(25 * (quality.unsqueeze(1) - self.quality_steps))
        of_faults = [of_margins, LOUD * first, LOUD * second]
        level = 4 * quality.unsqueeze(1) - 2
        return torch.cat([of_quality, level, *of_faults, of_attributes, attributes, *ends, looks], 1)

    def forward(self, quality: Tensor, margins: Tensor, looks: Tensor) -> Tensor:
        """Return one row for each photograph, float32 [n, width]."""
        return self.second(nn.functional.gelu(self.first(self.codes(quality, margins, looks))))


def as_tensors(judgements: Sequence[Judgement]) -> tuple[Tensor, Tensor, Tensor]:
    """Return quality [n], margins [n, FAULTS] and looks [n, LOOKS] of judgements."""
    margins = [[j.margins.get(f, LEAST) for f in FAULTS] for j in judgements]
    looks = [[float(look in j.looks) for look in LOOKS] for j in judgements]
    return torch.tensor([j.quality for j in judgements]), torch.tensor(margins), torch.tensor(looks)


def draw_judgement(rng: np.random.Generator, n_faults: int | None = None) -> Judgement:
    """Return a judgement as a tower might have it: of any quality, with none to four faults named.

    Everything that can be said is drawn often enough to be learnt, whatever photographs are like.
    """
    margins = dict(zip(FAULTS, np.where(rng.random(N_FAULTS) < 0.3, rng.uniform(-1.5, -0.05, N_FAULTS),
                                        rng.uniform(LEAST, -0.8, N_FAULTS)).tolist(), strict=True))  # fmt: skip
    if rng.random() < 0.25:  # nothing near
        margins = {f: min(u, -1.0) - float(rng.uniform(0, 1)) for f, u in margins.items()}
    n = int(rng.choice(5, p=(0.32, 0.32, 0.22, 0.1, 0.04))) if n_faults is None else n_faults
    for fault in rng.permutation(FAULTS)[:n]:
        margins[str(fault)] = float(rng.choice((rng.uniform(0.03, 1), rng.uniform(0.03, MOST), MOST)))
    quality = float(rng.uniform(0.02, 0.97))
    looks = [str(rng.choice(pair)) for pair in (LOOKS[:2], LOOKS[2:4], LOOKS[4:]) if rng.random() < 0.4]
    return Judgement(quality, {f: float(np.clip(u, LEAST, MOST)) for f, u in margins.items()}, looks)
