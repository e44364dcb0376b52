"""Reduce image tokens by the class token's attention, or by chance.

Rows leave in raster order. Where several patches make one row, it stands where the patch stood that it is made around.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .reduction_nodes import TINY

if TYPE_CHECKING:
    import numpy.typing as npt

    from .reduction_nodes import Nodes, TowerTensors

CONTEXTUAL = (5, 32)
"""Share of merged rows in VisionZip: 10 of 64, 20 of 128 and 30 of 192 in the paper."""
SEED = 0


def class_attention(nodes: Nodes, tower: TowerTensors) -> str:
    """Add the attention of the class token to every row, summed over heads, float32 [batch, n_rows].

    softmax(q_class kᵀ scale), of the last layer that runs: in a ViT-L of LLaVA-1.5, CLIP's layer 22.
    """
    query = nodes.as_float(nodes.add("Gather", tower.query, nodes.ints(tower.class_at), axis=1))
    heads = nodes.ints(0, 0, tower.n_heads, -1)
    query = nodes.add("Transpose", nodes.add("Reshape", query, heads), perm=[0, 2, 1, 3])
    key = nodes.add("Transpose", nodes.add("Reshape", nodes.as_float(tower.key), heads), perm=[0, 2, 3, 1])
    products = nodes.add("Mul", nodes.add("MatMul", query, key), nodes.number(tower.scale))
    weights = nodes.add("Softmax", products, axis=-1)  # [batch, heads, 1, 1 + n_rows]
    return nodes.slice(nodes.sum(weights, 1, 2), 1, 1)


def strongest(nodes: Nodes, tower: TowerTensors) -> None:
    """Take the n patches that the class token attends to most.

    FasterVLM (Zhang et al. 2024, "[CLS] Attention is All You Need for Training-Free Visual Token Pruning").
    """
    _, places = nodes.top(class_attention(nodes, tower), nodes.n)
    map_ordered, _ = nodes.top(places, nodes.n, largest=0)
    nodes.pick(tower.rows, map_ordered)


def random(nodes: Nodes, tower: TowerTensors) -> None:
    """Take n patches by chance, the same of every image: the baseline that a method has to beat."""
    order = np.random.default_rng(SEED).permutation(tower.n_rows)
    chosen = nodes.slice(nodes.constant(order), 0, 0, nodes.n)
    map_ordered, _ = nodes.top(chosen, nodes.n, largest=0)
    nodes.pick(tower.rows, map_ordered)


def visionzip(nodes: Nodes, tower: TowerTensors) -> None:
    """Take the patches that the class token attends to most, and merge the rest into a few by their keys.

    VisionZip (Yang et al. 2024, "VisionZip: Longer is Better but Not Necessary in Vision Language Models"): of the
    rest, targets are taken at equal distances, and each other patch joins the target whose key, averaged over heads,
    has the greatest cosine to its own. Different from the paper: a merged row is the average of its patches, where
    the original adds their average to the target; rows stay in raster order; and the class token is left out, as in
    LLaVA, so that all n rows are the original ones.
    """
    n_merged = nodes.add("Div", nodes.add("Mul", nodes.n, nodes.ints(CONTEXTUAL[0])), nodes.ints(CONTEXTUAL[1]))
    dominant, rest = _dominant_and_rest(nodes, tower, nodes.add("Sub", nodes.n, n_merged))
    target = _every_so_many(nodes, tower, rest, n_merged)
    centers = _places(nodes, tower, nodes.add("Or", dominant, target))  # [batch, n]

    keys = nodes.add("Reshape", nodes.as_float(tower.key), nodes.ints(0, 0, tower.n_heads, -1))
    keys = nodes.slice(nodes.add("ReduceMean", keys, axes=[2], keepdims=0), 1, 1)
    length = nodes.add("ReduceL2", keys, axes=[2], keepdims=1)
    keys = nodes.add("Div", keys, nodes.add("Max", length, nodes.number(TINY)))
    of_centers = nodes.add("GatherND", keys, nodes.unsqueeze(centers, -1), batch_dims=1)
    cosines = nodes.add("MatMul", of_centers, nodes.add("Transpose", keys, perm=[0, 2, 1]))  # [batch, n, n_rows]
    is_target = nodes.add("GatherElements", nodes.as_int(target), centers, axis=1)
    is_target = nodes.unsqueeze(nodes.add("Equal", is_target, nodes.ints(1)), -1)
    cosines = nodes.add("Where", is_target, cosines, nodes.number(-2.0))
    nearest = nodes.add("ArgMax", cosines, axis=1, keepdims=1)  # [batch, 1, n_rows]

    place = nodes.unsqueeze(nodes.slice(nodes.every, 0, 0, nodes.n), 1)  # [n, 1]
    joins = nodes.add("And", rest, nodes.add("Not", target))
    joins = nodes.add("And", joins, nodes.add("Greater", n_merged, nodes.ints(0)))
    joined = nodes.add("And", nodes.add("Equal", nearest, place), nodes.unsqueeze(joins, 1))
    together = nodes.add("Or", nodes.is_at(centers), joined)
    nodes.mix(tower.rows, nodes.divided(nodes.as_float(together)))


def mix(nodes: Nodes, tower: TowerTensors) -> None:
    """Take half of the rows by the class token's attention, and average the rest of the image in the other half.

    The rest is cut into pieces of equal length along a Hilbert curve, on which neighbours are neighbours in the image.
    """
    n_dominant = nodes.add("Div", nodes.n, nodes.ints(2))
    dominant, rest = _dominant_and_rest(nodes, tower, n_dominant)
    curve = hilbert_curve(tower.side)
    along = nodes.add("Gather", nodes.as_int(rest), nodes.constant(curve), axis=1)
    counted = nodes.add("CumSum", along, nodes.ints(1))
    number = nodes.add("Gather", counted, nodes.constant(np.argsort(curve)), axis=1)
    number = nodes.add("Sub", number, nodes.ints(1))  # of each patch of the rest, along the curve

    n_pieces = nodes.add("Sub", nodes.n, n_dominant)
    n_rest = nodes.add("Sub", nodes.ints(tower.n_rows), n_dominant)
    piece = nodes.add("Div", nodes.add("Mul", number, n_pieces), n_rest)
    first, after = (_first_of(nodes, p, n_pieces, n_rest) for p in (piece, nodes.add("Add", piece, nodes.ints(1))))
    both = nodes.add("Sub", nodes.add("Add", first, after), nodes.ints(1))
    is_middle = nodes.add("Equal", number, nodes.add("Div", both, nodes.ints(2)))
    centers = _places(nodes, tower, nodes.add("Or", dominant, nodes.add("And", rest, is_middle)))

    alone = nodes.constant(np.arange(tower.n_rows) + tower.n_rows)
    group = nodes.add("Where", dominant, alone, piece)  # [batch, n_rows]
    of_centers = nodes.add("GatherElements", group, centers, axis=1)
    inside = nodes.add("Equal", nodes.unsqueeze(of_centers, -1), nodes.unsqueeze(group, 1))
    nodes.mix(tower.rows, nodes.divided(nodes.as_float(inside)))


def _first_of(nodes: Nodes, piece: str, n_pieces: str, n_rest: str) -> str:
    """Return the number of the first patch of a piece: piece n_rest / n_pieces, rounded up."""
    above = nodes.add("Sub", n_pieces, nodes.ints(1))
    return nodes.add("Div", nodes.add("Add", nodes.add("Mul", piece, n_rest), above), n_pieces)


def _dominant_and_rest(nodes: Nodes, tower: TowerTensors, n: str) -> tuple[str, str]:
    """Return which patches are among the n that the class token attends to most, and which are not."""
    every = nodes.ints(tower.n_rows)
    _, order = nodes.top(class_attention(nodes, tower), every)
    _, rank = nodes.top(order, every, largest=0)  # the inverse of the order
    dominant = nodes.add("Less", rank, n)
    return dominant, nodes.add("Not", dominant)


def _every_so_many(nodes: Nodes, tower: TowerTensors, rest: str, n: str) -> str:
    """Return n of the rest, equally far apart in raster order, from the first one on."""
    n_rest = nodes.add("Sub", nodes.ints(tower.n_rows), nodes.add("Sub", nodes.n, n))
    step = nodes.add("Div", n_rest, nodes.add("Max", n, nodes.ints(1)))
    number = nodes.add("Sub", nodes.add("CumSum", nodes.as_int(rest), nodes.ints(1)), nodes.ints(1))
    turn = nodes.add("Div", number, step)
    is_first = nodes.add("Equal", number, nodes.add("Mul", turn, step))
    return nodes.add("And", nodes.add("And", rest, is_first), nodes.add("Less", turn, n))


def _places(nodes: Nodes, tower: TowerTensors, chosen: str) -> str:
    """Return where the n chosen patches lie, in raster order, [batch, n]."""
    lead = nodes.add("Mul", nodes.as_int(chosen), nodes.ints(tower.n_rows))
    _, places = nodes.top(nodes.add("Sub", lead, nodes.every), nodes.n)
    return places


def hilbert_curve(side: int) -> npt.NDArray[np.int64]:
    """Return the patches of a square in the order of a Hilbert curve over the next power of two."""
    full = 1 << (side - 1).bit_length()
    places = []
    for distance in range(full * full):
        x = y = 0
        left, size = distance, 1
        while size < full:
            right, up = 1 & (left // 2), 1 & (left ^ (left // 2))
            if not up:
                if right:
                    x, y = size - 1 - x, size - 1 - y
                x, y = y, x
            x, y = x + size * right, y + size * up
            left, size = left // 4, size * 2
        if x < side and y < side:
            places.append(y * side + x)
    return np.array(places, np.int64)
