"""Reduce image tokens by dividing the image into N cells, one row per cell.

Any N is an exact partition: the image is cut into bands, and each band into cells, so that every patch is in one cell
and no cell is empty. With as many cells as patches every patch is its own. Composition needs what these keep: every
part of the image has its row, in the order in which they lie.

Where the class token comes last (llama.cpp's reading of a tower), the rows are the patches from the second one on and
then the class token's: cells lie one patch further left there, and the class token is in the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .reduction_attention import class_attention
from .reduction_nodes import TINY

if TYPE_CHECKING:
    import numpy.typing as npt

    from .reduction_nodes import Nodes, TowerTensors

    Ints = npt.NDArray[np.int64]


def pool(nodes: Nodes, tower: TowerTensors) -> None:
    """Average every cell: adaptive average pooling, for numbers of cells that are no product of two as well."""
    nodes.mix(tower.rows, nodes.divided(nodes.as_float(_members(nodes, tower))))


def weighted(nodes: Nodes, tower: TowerTensors) -> None:
    """Average every cell, each patch with the attention that the class token pays to it."""
    scores = nodes.add("Add", class_attention(nodes, tower), nodes.number(TINY))
    inside = nodes.as_float(_members(nodes, tower))
    nodes.mix(tower.rows, nodes.divided(nodes.add("Mul", nodes.unsqueeze(scores, 1), inside)))


def cells(nodes: Nodes, tower: TowerTensors) -> None:
    """Take from every cell the patch that the class token attends to most."""
    scores = nodes.unsqueeze(class_attention(nodes, tower), 1)
    of_cell = nodes.add("Where", _members(nodes, tower), scores, nodes.number(-1.0))  # [batch, n, n_rows]
    nodes.pick(tower.rows, nodes.add("ArgMax", of_cell, axis=2, keepdims=0))


def grid(nodes: Nodes, tower: TowerTensors) -> None:
    """Take from every cell the patch in its middle: uniform sampling in two dimensions."""
    inside = nodes.as_float(_members(nodes, tower))
    n_inside = nodes.sum(inside, 1, keepdims=1)
    at = np.stack(_rows_and_columns(tower.side), axis=1).astype(np.float32)
    middle = nodes.add("Div", nodes.add("MatMul", inside, nodes.constant(at)), n_inside)
    middle = nodes.as_int(nodes.add("Floor", middle))  # [n, 2]
    places = nodes.sum(nodes.add("Mul", middle, nodes.ints(tower.side, 1)), 1)
    nodes.pick(tower.rows, places)


def _members(nodes: Nodes, tower: TowerTensors) -> str:
    """Add what says which patch is in which cell, bool [n, n_rows]: :func:`partition` in the graph."""
    side = nodes.ints(tower.side)
    down, across = (nodes.constant(at) for at in _rows_and_columns(tower.side))
    n_bands = nodes.add("Gather", nodes.constant(best_bands(tower.side)), nodes.n)
    band = nodes.add("Div", nodes.add("Mul", down, n_bands), side)
    first = nodes.add("Div", nodes.add("Mul", band, nodes.n), n_bands)
    after = nodes.add("Div", nodes.add("Mul", nodes.add("Add", band, nodes.ints(1)), nodes.n), n_bands)
    columns = nodes.add("Sub", after, first)
    cell = nodes.add("Add", first, nodes.add("Div", nodes.add("Mul", across, columns), side))
    every = nodes.slice(nodes.every, 0, 0, nodes.n)
    return nodes.add("Equal", nodes.unsqueeze(every, 1), nodes.unsqueeze(cell, 0))


def partition(side: int, n: int, n_bands: int) -> Ints:
    """Return the cell of each patch of a square, 0 to n - 1 in raster order.

    Band b has the cells from b n / n_bands on, so bands differ by one cell at most, and in height by one patch.
    """
    down, across = _rows_and_columns(side)
    band = down * n_bands // side
    first = band * n // n_bands
    return first + across * ((band + 1) * n // n_bands - first) // side


def best_bands(side: int) -> Ints:
    """Return for every n from 0 to side² how many bands make the most compact cells; 0 for n = 0."""
    found = [0]
    for n in range(1, side**2 + 1):
        possible = range(-(-n // side), min(n, side) + 1)
        found.append(min(possible, key=lambda n_bands: _scatter(side, partition(side, n, n_bands))))
    return np.array(found, np.int64)


def _scatter(side: int, cell: Ints) -> float:
    """Return the sum of squared distances of patches to the middle of their cell."""
    n_inside = np.bincount(cell)
    total = 0.0
    for at in _rows_and_columns(side):
        sums = np.bincount(cell, weights=at)
        total += float((at * at).sum() - (sums * sums / n_inside).sum())
    return round(total, 6)


def _rows_and_columns(side: int) -> tuple[Ints, Ints]:
    """Return where each patch lies: how far down and how far across."""
    places: Any = np.divmod(np.arange(side**2, dtype=np.int64), side)
    return places
