"""Reductions of image tokens in plain numpy and loops: what the graphs' own are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from aesedge_export.vision.reduction_attention import hilbert_curve

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class Seen(NamedTuple):
    """What a graph computes for one image."""

    rows: Floats
    scores: Floats
    keys: Floats
    """Of the rows, averaged over heads."""


def seen(rows: Floats, query: Floats, key: Floats, class_at: int, n_heads: int) -> Seen:
    width = key.shape[1] // n_heads
    scores = np.zeros(len(key))
    for head in range(n_heads):
        part = slice(head * width, (head + 1) * width)
        products = key[:, part].astype(np.float64) @ query[class_at, part].astype(np.float64) / width**0.5
        weights = np.exp(products - products.max())
        scores += weights / weights.sum()
    mean_key = key.reshape(len(key), n_heads, width).astype(np.float64).mean(axis=1)
    return Seen(rows.astype(np.float64), scores[1:], mean_key[1:])


def side_of(s: Seen) -> int:
    return round(len(s.rows) ** 0.5)


def divided(side: int, n: int, n_bands: int) -> list[list[int]]:
    """Return the patches of every cell: bands of rows, each cut into its share of the cells."""
    found = []
    for band in range(n_bands):
        first, after = band * n // n_bands, (band + 1) * n // n_bands
        down = [y for y in range(side) if y * n_bands // side == band]
        for column in range(after - first):
            across = [x for x in range(side) if x * (after - first) // side == column]
            found.append([y * side + x for y in down for x in across])
    return found


def scatter(side: int, cells: list[list[int]]) -> float:
    total = 0.0
    for cell in cells:
        at = np.array([divmod(p, side) for p in cell], np.float64)
        total += float(((at - at.mean(axis=0)) ** 2).sum())
    return round(total, 6)


def best_cells(side: int, n: int) -> list[list[int]]:
    found: list[list[int]] = []
    for n_bands in range(1, side + 1):
        cells = divided(side, n, n_bands)
        complete = len(cells) == n and all(cells) and sum(map(len, cells)) == side**2
        if complete and (not found or scatter(side, cells) < scatter(side, found)):
            found = cells
    return found


def by_attention(s: Seen, n: int) -> list[int]:
    return sorted(np.argsort(-s.scores, kind="stable")[:n].tolist())


def pool(s: Seen, n: int) -> list[Floats]:
    return [s.rows[cell].mean(axis=0) for cell in best_cells(side_of(s), n)]


def weighted(s: Seen, n: int) -> list[Floats]:
    return [np.average(s.rows[cell], axis=0, weights=s.scores[cell]) for cell in best_cells(side_of(s), n)]


def cells(s: Seen, n: int) -> list[Floats]:
    return [s.rows[max(cell, key=lambda p: s.scores[p])] for cell in best_cells(side_of(s), n)]


def grid(s: Seen, n: int) -> list[Floats]:
    side = side_of(s)
    found = []
    for cell in best_cells(side, n):
        down, across = sorted(p // side for p in cell), sorted(p % side for p in cell)
        found.append(s.rows[(down[0] + down[-1]) // 2 * side + (across[0] + across[-1]) // 2])
    return found


def strongest(s: Seen, n: int) -> list[Floats]:
    return [s.rows[p] for p in by_attention(s, n)]


def random(s: Seen, n: int) -> list[Floats]:
    return [s.rows[p] for p in sorted(np.random.default_rng(0).permutation(len(s.rows))[:n].tolist())]


def visionzip(s: Seen, n: int) -> list[Floats]:
    n_merged = n * 5 // 32
    dominant = by_attention(s, n - n_merged)
    rest = [p for p in range(len(s.rows)) if p not in dominant]
    groups = {p: [p] for p in dominant}
    targets = rest[:: len(rest) // n_merged][:n_merged] if n_merged else []
    groups |= {p: [p] for p in targets}
    unit = s.keys / np.linalg.norm(s.keys, axis=1, keepdims=True)
    for p in rest:
        if targets and p not in targets:
            groups[max(targets, key=lambda t: float(unit[t] @ unit[p]))].append(p)
    return [s.rows[groups[p]].mean(axis=0) for p in sorted(groups)]


def mix(s: Seen, n: int) -> list[Floats]:
    dominant = by_attention(s, n // 2)
    rest = [p for p in hilbert_curve(side_of(s)).tolist() if p not in dominant]
    n_pieces = n - n // 2
    groups = {p: [p] for p in dominant}
    for piece in range(n_pieces):
        members = [p for i, p in enumerate(rest) if i * n_pieces // len(rest) == piece]
        groups[members[(len(members) - 1) // 2]] = members
    return [s.rows[groups[p]].mean(axis=0) for p in sorted(groups)]


EXPECTED: dict[str, Callable[[Seen, int], list[Floats]]] = {
    "pool": pool,
    "weighted": weighted,
    "cells": cells,
    "grid": grid,
    "cls": strongest,
    "random": random,
    "visionzip": visionzip,
    "mix": mix,
}
