"""Measure colors, light and the directions of edges, which the mean of a network's map hardly holds.

A histogram of directions tells that a horizon is not level, one of hues that the light has a color, and the light of
rings around the middle that the corners are dark. All is pooled over the picture, without its padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .efficientnet import MEAN, STD

LUMA = (0.299, 0.587, 0.114)
N_TONES = 16
WARMTHS, TINTS = (13, 0.14), (9, 0.12)
"""How many bins of red against blue, and of green against both, as logarithms; their width."""
SATURATIONS = 8
RINGS = (0.05, 0.2, 0.4, 0.65, 0.95)
"""Squared distances from the middle, 1 in the corners."""
OFFSETS = tuple(range(-24, 25, 4))
"""Degrees that an edge is turned away from upright or level."""
SHARPNESS = 6
"""How often a bin of directions is squared: at 6, an edge 4 degrees off counts half."""
N_SIZES = 2
"""Edges are measured at half of the picture's size and at a quarter."""
N_COLORS = N_TONES + 2 * (WARMTHS[0] + TINTS[0]) + SATURATIONS + 6 + 1 + 2 * 3 + 2 * len(RINGS)
N_DIRECTIONS = 2 * len(OFFSETS) + 2 * (len(OFFSETS) // 2 + 1) + len(OFFSETS)
N_STATISTICS = N_COLORS + N_SIZES * N_DIRECTIONS
_EPSILON = 1e-6


def image_statistics(pixels: Tensor, few: Tensor, inside: Tensor) -> Tensor:
    """Return the statistics of pictures, float32 [n, N_STATISTICS].

    Args:
        pixels: normalised, [n, 3, size, size].
        few: some of them, [n, 3, m, m].
        inside: 1 where these are the picture and 0 where it is padded, [n, 1, m, m].
    """
    x, y = coordinates(inside)
    colors = color_statistics(levels_of(few), inside, (x * x + y * y) / 2)
    grey = reduced_grey(pixels)
    far_inside = -functional.max_pool2d(-inside, 5, 1, 2) * frame(int(inside.shape[-1]))
    smaller = functional.avg_pool2d(grey, 2)
    return torch.cat([colors, *(direction_statistics(g, far_inside, x) for g in (grey, smaller))], 1)


def reduced_grey(pixels: Tensor) -> Tensor:
    """Return how light a picture of half the size is, 0 to 1, [n, 1, size / 2, size / 2]."""
    luma, scale, mean = (torch.tensor(values) for values in (LUMA, STD, MEAN))
    weights = (luma * scale / 4)[None, :, None, None].repeat(1, 1, 2, 2)
    return functional.conv2d(pixels, weights, (luma * mean).sum()[None], stride=2)


def frame(side: int) -> Tensor:
    """Return 0 in the two outermost rows and columns and 1 elsewhere, [side, side]: there begins what is not seen."""
    place = torch.arange(side)
    line = ((place > 1) & (place < side - 2)).float()
    return line * line[:, None]


def levels_of(pixels: Tensor) -> Tensor:
    """Return levels of red, green and blue, 0 to 1."""
    return pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def coordinates(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far to the right and down each position is, -1 to 1 in the picture."""
    side = int(inside.shape[-1])
    line = (torch.arange(side, dtype=torch.float32) + 0.5) * (2 / side) - 1
    width = inside.amax(2, keepdim=True).mean(3, keepdim=True) + _EPSILON
    height = inside.amax(3, keepdim=True).mean(2, keepdim=True) + _EPSILON
    return line / width, line[:, None] / height


def bins(values: Tensor, n: int, width: float, *, middle: float = 0.0) -> Tensor:
    """Return how much each value belongs to each of `n` bins around `middle`, [n, bins, height, width]."""
    centers = middle + width * (torch.arange(n, dtype=torch.float32) - (n - 1) / 2)
    near = values.clamp(float(centers[0]), float(centers[-1]))
    return (1 - (near - centers[:, None, None]).abs() / width).clamp(min=0)


def share(maps: Tensor, weights: Tensor, of: Tensor | None = None) -> Tensor:
    """Return the weighted mean of maps, or with `of` their weighted sum by the sum of those, [n, channels]."""
    total = (maps.flatten(2) @ weights.flatten(2).transpose(1, 2)).squeeze(2)
    return total / ((weights if of is None else of).sum((2, 3)) + _EPSILON)


def color_statistics(levels: Tensor, inside: Tensor, distance: Tensor) -> Tensor:
    """Return histograms of tones, hues and saturation, what is clipped, and light and color by distance."""
    grey = (levels * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    red, green, blue = (torch.log(levels[:, k : k + 1].clamp(min=0) + 0.05) for k in range(3))
    warmth, tint = (red - blue) / 2, green - (red + blue) / 2
    span = levels.amax(1, keepdim=True) - levels.amin(1, keepdim=True)
    saturation = span / (levels.amax(1, keepdim=True) + 0.05)
    hues = torch.cat([bins(warmth, *WARMTHS), bins(tint, *TINTS)], 1)
    tones = bins(grey, N_TONES, 1 / (N_TONES - 1), middle=0.5)
    vivid = bins(saturation, SATURATIONS, 1 / (SATURATIONS - 1), middle=0.5)
    clipped = torch.cat([((levels - 0.97) / 0.03).clamp(0, 1), ((0.03 - levels) / 0.03).clamp(0, 1)], 1)
    bright = inside * grey.clamp(min=0) ** 4
    plain = inside * (1 - saturation).clamp(min=0) ** 4
    counts = share(torch.cat([tones, hues, vivid, clipped, span], 1), inside)
    of_hue = torch.cat([warmth, tint], 1)
    found = [torch.sqrt(counts.clamp(min=0) + 1e-4), torch.sqrt(share(hues, bright).clamp(min=0) + 1e-4)]
    found += [share(of_hue, weights) for weights in (inside, bright, plain)]
    light = torch.log(grey.clamp(min=0) + 0.03)
    whole = share(light, inside)
    peak = share(grey**4, inside) + 1e-4
    for k, middle in enumerate(RINGS):
        width = RINGS[min(k + 1, len(RINGS) - 1)] - RINGS[min(k, len(RINGS) - 2)]
        ring = inside * (1 - (distance - middle).abs() / width).clamp(min=0)
        found += [share(light, ring) - whole, torch.log((share(grey**4, ring) + 1e-4) / peak)]
    return torch.cat(found, 1)


def direction_statistics(grey: Tensor, inside: Tensor, x: Tensor) -> Tensor:
    """Return how many edges are so many degrees off upright and level, and where those near upright are.

    Source of the tensor: J. Bigun and G. Granlund, Optimal orientation detection of linear symmetry, 1987; of the
    filters: H. Scharr, 2000.
    """
    scharr = torch.tensor([[3.0, 10.0, 3.0], [0.0, 0.0, 0.0], [-3.0, -10.0, -3.0]]) / 32
    slopes = functional.conv2d(grey, torch.stack([scharr.T, scharr])[:, None], padding=1)
    across, down = slopes[:, :1], slopes[:, 1:]
    products = torch.cat([across * across - down * down, 2 * across * down, across * across + down * down], 1)
    tensor = functional.avg_pool2d(products, 4, 2, 1)
    real, imaginary, energy = (tensor[:, k : k + 1] for k in range(3))
    factor = int(inside.shape[-1]) // int(real.shape[-1])
    if factor > 1:
        inside, x = -functional.max_pool2d(-inside, factor), functional.avg_pool2d(x, (1, factor))
    length = torch.sqrt(real * real + imaginary * imaginary + 1e-12)
    weights = inside * torch.sqrt(length) * (length / (energy + 1e-4)) ** 2
    angles = torch.tensor([math.radians(2 * (base + offset)) for base in (0, 90) for offset in OFFSETS])
    bearings = torch.stack([torch.cos(angles), torch.sin(angles)], 1)[:, :, None, None]
    near = functional.conv2d(torch.cat([real, imaginary], 1) / length, bearings).clamp(min=0)
    for _ in range(SHARPNESS):
        near = near * near
    counts = share(near, weights)
    upright, level = counts[:, : len(OFFSETS)], counts[:, len(OFFSETS) :]
    where = share(near[:, : len(OFFSETS)], weights * x, weights)
    half = len(OFFSETS) // 2
    folded = [side[:, half:] + side[:, : half + 1].flip(1) for side in (upright, level)]
    return torch.cat([torch.sqrt(torch.cat([upright, level, *folded], 1) + 1e-4), 4 * where], 1)
