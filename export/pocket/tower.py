"""The vision graph of pocket: what EfficientNet-Lite0 sees, pooled, becomes the judgement, and that a row.

    pixels ─▶ maps of every block ─▶ mean and spread of each channel over the picture ─▶ quality, faults, looks ─▶ row

The network is ImageNet's and not changed; people's opinions and spoilt photographs teach the two heads behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from .colour_stats import LOOKS, look_flags
from .faults import FAULTS
from .image_statistics import N_STATISTICS, image_statistics, levels_of
from .judgement import LEAST, MOST, Judgement, JudgementCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .efficientnet import EfficientNetLite0

IMAGE_SIZE = 384
READ = (0, 2, 4, 7, 10, 14, 15)
"""Blocks whose outputs tell of faults."""
N_MAPS = 2 * (16 + 24 + 40 + 80 + 112 + 192 + 320)
N_OUTPUTS = N_MAPS + N_STATISTICS
READ_INNER = (5, 9, 11, 12, 13, 14, 15)
"""Blocks whose maps of the depthwise convolution tell of people's opinions; the others add nothing."""
INNER_CHANNELS = (240, 672, 672, *4 * (1152,))
N_INNER = 2 * sum(INNER_CHANNELS)
CLIPPED = 5.0
"""Standard deviations beyond which a channel tells nothing more."""
PADDED = 0.012
"""A pixel value up to which a row or column of a picture is its padding, whose color is the mean."""
SAMPLED = 4
"""Padding and colors are read from every fourth pixel of every fourth row."""


class Pooled(nn.Module):
    """The network, and what is pooled from its maps; the padding of a picture is left out."""

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what tells of faults [n, N_OUTPUTS], and what tells of people's opinions [n, N_INNER]."""
        few = sampled(pixels)
        inside = picture_mask(few)
        outputs, inner = self.network(pixels)
        first, *others = [outputs[k] for k in READ]
        maps = [first[:, :, ::2, ::2], *others]
        deep = [inner[k] for k in READ_INNER]
        weights = {size: pool_weights(inside, size) for size in {int(x.shape[-1]) for x in (*maps, *deep)}}
        return (
            torch.cat(
                [
                    *(pool(x, weights[int(x.shape[-1])], logarithm=True) for x in maps),
                    image_statistics(pixels, few, inside),
                ],
                1,
            ),
            torch.cat([pool(x, weights[int(x.shape[-1])]) for x in deep], 1),
        )


def sampled(pixels: Tensor) -> Tensor:
    """Return every SAMPLED-th pixel of every SAMPLED-th row."""
    return pixels[:, :, SAMPLED // 2 :: SAMPLED, SAMPLED // 2 :: SAMPLED]


def picture_mask(pixels: Tensor) -> Tensor:
    """Return 1 where the picture is and 0 where it was padded, [n, 1, height, width]."""
    seen = (pixels.abs().amax(1, keepdim=True) > PADDED).float()
    return seen.amax(3, keepdim=True) * seen.amax(2, keepdim=True)


def pool_weights(inside: Tensor, size: int) -> Tensor:
    """Return how much each position of a map counts, [n, size * size, 1], 1 in all."""
    weights = functional.avg_pool2d(inside, inside.shape[-1] // size).flatten(1)
    return (weights / (weights.sum(1, keepdim=True) + 1e-6)).unsqueeze(2)


def pool(x: Tensor, weights: Tensor, *, logarithm: bool = False) -> Tensor:
    """Return mean and standard deviation of each channel inside the picture, [n, 2 * channels]."""
    flat = x.flatten(2)
    mean = flat @ weights
    apart = flat - mean  # squares of what is not centered lose the spread of channels that hardly vary
    spread = ((apart * apart) @ weights).add(1e-5).sqrt().squeeze(2)
    mean = mean.squeeze(2)
    return torch.cat([mean, torch.log(spread + 0.02) if logarithm else spread], 1)


class Standardised(nn.Module):
    """Bring each feature to mean 0 and deviation 1 of the training pictures, and cut off what is far out."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))

    def set(self, features: Tensor) -> None:
        """Take mean and deviation from training pictures, [pictures, n]."""
        self.mean.copy_(features.mean(0))
        self.scale.copy_(1 / (features.std(0) + 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Return standardised features."""
        return ((x - self.mean) * self.scale).clamp(-CLIPPED, CLIPPED)


class Perceptron(nn.Module):
    """A network of one hidden layer behind standardised features."""

    def __init__(self, n: int, hidden: int) -> None:
        super().__init__()
        self.standardised = Standardised(n)
        self.first, self.second = nn.Linear(n, hidden), nn.Linear(hidden, len(FAULTS))

    def forward(self, features: Tensor, dropped: float = 0.0) -> Tensor:
        """Return logits of the strengths, [n, FAULTS]."""
        seen = functional.dropout(self.standardised(features), 2 / 3 * dropped, dropped > 0)
        return self.second(functional.dropout(functional.gelu(self.first(seen)), dropped, dropped > 0))


class FaultHead(nn.Module):
    """Says of each fault how strongly it is there: from the network's maps and from statistics, taught apart.

    Taught as one, statistics are hardly heeded: in training photographs, the maps alone tell everything.
    """

    share: Tensor
    """How much the maps count for each fault, [FAULTS]; the rest is the statistics'."""

    def __init__(self, hidden: int = 512) -> None:
        super().__init__()
        self.maps, self.statistics = Perceptron(N_MAPS, hidden), Perceptron(N_STATISTICS, hidden)
        self.register_buffer("share", torch.full((len(FAULTS),), 0.5))

    def both(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of either part, [n, FAULTS] each."""
        return self.maps(outputs[:, :N_MAPS]), self.statistics(outputs[:, N_MAPS:])

    def forward(self, outputs: Tensor) -> Tensor:
        """Return logits of the strengths, [n, FAULTS]."""
        maps, statistics = self.both(outputs)
        return self.share * maps + (1 - self.share) * statistics


class Tower(nn.Module):
    """Pixels to the judgement, and to the row that tells it."""

    knots: Tensor
    """The logits from which each fault is named, clear and severe, [FAULTS, 3]."""
    cost: Tensor
    """How much opinion each fault costs for a logit above the one from which it is named, [FAULTS]."""
    scale: Tensor
    """Slope and offset of the logit of the quality."""

    def __init__(self, network: EfficientNetLite0, code: JudgementCode) -> None:
        super().__init__()
        self.pooled, self.code = Pooled(network), code
        self.opinion_features, self.opinion = Standardised(N_INNER), nn.Linear(N_INNER, 1)
        self.faults = FaultHead()
        self.register_buffer("knots", torch.tensor([[0.0, 1.0, 2.0]]).repeat(len(FAULTS), 1))
        self.register_buffer("cost", torch.zeros(len(FAULTS)))
        self.register_buffer("scale", torch.tensor([1.0, 0.0]))

    def costs(self, logits: Tensor) -> Tensor:
        """Return what the faults cost, [n]: the more the stronger, and a little even where none is named."""
        return functional.softplus(logits - self.knots[:, 0]) @ self.cost

    def judge(self, outputs: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
        """Return quality [n] and margins [n, FAULTS] from pooled features."""
        logits = self.faults(outputs)
        named, clear, severe = self.knots.unbind(1)
        below = (logits - named).clamp(max=0)
        above = (logits - named).clamp(min=0).minimum(clear - named) / (clear - named)
        beyond = (logits - clear).clamp(min=0) / (severe - clear)
        margins = (below + above + beyond).clamp(LEAST, MOST)
        opinion = self.opinion(self.opinion_features(inner)).squeeze(1) - self.costs(logits)
        return torch.sigmoid(self.scale[0] * opinion + self.scale[1]), margins

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the row of each picture, float32 [n, width]; `pixels` is normalised, [n, 3, size, size]."""
        quality, margins = self.judge(*self.pooled(pixels))
        return self.code(quality, margins, looks_in(pixels))


def looks_in(pixels: Tensor) -> Tensor:
    """Return which looks show, float32 [n, LOOKS]."""
    few = sampled(pixels)
    inside = picture_mask(few)
    n = inside.sum((2, 3)) + 1e-6
    levels = levels_of(few)
    colors = (levels * inside).sum((2, 3)) / n
    span = (levels.amax(1, keepdim=True) - levels.amin(1, keepdim=True)) * inside
    brightness = colors @ torch.tensor((0.299, 0.587, 0.114))
    return look_flags(brightness, colors[:, 0] - colors[:, 2], (span.sum((2, 3)) / n).squeeze(1))


@torch.no_grad()
def judgements(quality: Tensor, margins: Tensor, looks: Tensor) -> list[Judgement]:
    """Return judgements in words."""
    return [
        Judgement(float(q), dict(zip(FAULTS, m.tolist(), strict=True)), _present(shown.tolist()))
        for q, m, shown in zip(quality, margins, looks, strict=True)
    ]


def _present(flags: Sequence[float]) -> list[str]:
    return [look for look, there in zip(LOOKS, flags, strict=True) if there]
