"""Reduce image tokens inside the vision graph, to a number that is chosen at run time.

    pixel_values ──▶ tower ──▶ rows [batch, all, hidden] ──reduction──▶ [batch, N, hidden] ──▶ projector
    n_image_tokens ────────────────────────────▲

The pass comes last: behind fusion, and behind the conversion to fp16 or int8. So every attention stays one fused
operator, calibration sees the graph that all image tokens run through, and with all of them the answer is that graph's
bit for bit. Numbers that decide (attention, similarity, weights) are float32 in every precision. The attention of the
class token is worked out once more from the last layer's query and keys: one row of it. Every method is a matrix of
weights [N, all], made from the input by arithmetic on whole numbers, TopK and comparisons, and one product with rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from aesedge.errors import ParityError, UsageError
from aesedge.vision.tower import INPUT, N_INPUT, OUTPUT

from . import reduction_attention, reduction_cells
from .onnx_graph import Graph, attribute
from .reduction_nodes import PREFIX, Nodes, TowerTensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

NONE = "none"
BEST = "cells"
"""Chosen on pocket's validation photographs, where it kept most pairs rightly ranked over all budgets; on the test
photographs it loses 0.6 points [-0.9, 2.1] at a quarter of the image tokens. So few photographs tell only the extremes
apart: ``cls``, which leaves parts of the image out, is worst. See :mod:`aesedge_export.pocket.token_budget`."""
OFFERED = (BEST, "visionzip", "pool")
"""What bundles are exported with: ``visionzip`` for its published figures at 7B, ``pool`` for towers whose class token
says nothing. The others are there to compare with."""
LEAST = 16
"""Image tokens below which nothing is left to judge a photo by; the graphs themselves go down to 1."""
_ALL_ROWS = f"{PREFIX}all_rows"

METHODS: dict[str, Callable[[Nodes, TowerTensors], None]] = {
    "pool": reduction_cells.pool,
    "weighted": reduction_cells.weighted,
    "cells": reduction_cells.cells,
    "grid": reduction_cells.grid,
    "mix": reduction_attention.mix,
    "visionzip": reduction_attention.visionzip,
    "cls": reduction_attention.strongest,
    "random": reduction_attention.random,
}
"""Name to what adds the nodes; each docstring has the formula and where it comes from."""


def checked_method(method: str) -> str:
    """Return a method that bundles are exported with, or ``none``.

    Raises:
        UsageError: there is no such method.
    """
    if method not in {NONE, *OFFERED}:
        raise UsageError(f"unknown reduction {method!r} of image tokens; there are {', '.join([*OFFERED, NONE])}")
    return method


def add_reduction(graph: Graph, method: str) -> None:
    """Add a reduction of image tokens to a graph, with the new input ``n_image_tokens``, int64 [1].

    Args:
        graph: an optimised graph, in any precision; changed. A reduction that it has is replaced.
        method: one of :data:`METHODS`, or ``none``, which leaves all of them.

    Raises:
        UsageError: there is no such method.
        ParityError: the graph is not one of a CLIP tower with fused attention and a projector.
    """
    if method != NONE and method not in METHODS:
        raise UsageError(f"unknown reduction {method!r} of image tokens; there are {', '.join([NONE, *METHODS])}")
    _take_away(graph)
    if method == NONE:
        return
    tower, place = _find_tower(graph)
    wanted = place.output[0]
    place.output[0] = _ALL_ROWS
    graph.add_input(N_INPUT, TensorProto.INT64, [1])
    nodes = Nodes(graph, wanted, tower.n_rows)
    METHODS[method](nodes, tower)
    at = next(i for i, node in enumerate(graph.nodes) if node is place) + 1
    graph.nodes[at:at] = nodes.made
    graph.set_dim(OUTPUT, 1, N_INPUT)
    graph.describe(n_image_tokens=tower.n_rows, reduction=method)
    graph.index()


def write_reduced(plain: Path, path: Path, method: str) -> None:
    """Write a graph with a reduction, or without one.

    Args:
        plain: an optimised graph; only read.
        path: the file to write; another one.
        method: see :func:`add_reduction`.
    """
    graph = Graph(plain)
    add_reduction(graph, method)
    graph.save(path)


def _take_away(graph: Graph) -> None:
    """Remove a graph's reduction."""
    ours = [node for node in graph.nodes if node.name.startswith(PREFIX)]
    if not ours:
        return
    place = graph.producer(_ALL_ROWS)
    if place is None:
        raise ParityError(f"{graph.path.name}: its reduction of image tokens is in no known form; export it again")
    place.output[0] = ours[-1].output[0]
    graph.nodes = [node for node in graph.nodes if not node.name.startswith(PREFIX)]
    graph.index()
    graph.prune()
    graph.drop_input(N_INPUT)
    graph.set_dim(OUTPUT, 1, int(graph.metadata()["n_image_tokens"]))
    graph.describe(reduction=None)


def _find_tower(graph: Graph) -> tuple[TowerTensors, onnx.NodeProto]:
    """Return what a reduction reads, and the node behind which it stands: the one that leaves a row out."""
    place = _last_slice(graph)
    attentions = [node for node in graph.nodes if node.op_type == "MultiHeadAttention"]
    class_first = _is_class_first(graph)
    n_rows = graph.dims(OUTPUT)[1]
    if place is None or not attentions or class_first is None or not isinstance(n_rows, int):
        raise ParityError(
            f"{graph.path.name}: this graph has no {INPUT}, fused attention and projector in a known form, so its "
            "image tokens cannot be reduced; please report this"
        )
    last, side = attentions[-1], round(n_rows**0.5)
    if side**2 != n_rows:
        raise ParityError(f"{graph.path.name}: {n_rows} image tokens are no square; please report this")
    tower = TowerTensors(
        rows=_ALL_ROWS,
        query=last.input[0],
        key=last.input[1],
        n_heads=int(attribute(last, "num_heads")),
        scale=float(attribute(last, "scale")),
        class_at=0 if class_first else n_rows,
        side=side,
    )
    return tower, place


def _last_slice(graph: Graph) -> onnx.NodeProto | None:
    """Return the Slice that the projector's input comes from."""
    left, seen = [OUTPUT], set()
    while left:
        node = graph.producer(left.pop(0))
        if node is None or id(node) in seen:
            continue
        if node.op_type == "Slice":
            return node
        seen.add(id(node))
        left.extend(node.input)
    return None


def _is_class_first(graph: Graph) -> bool | None:
    """Return whether the class token stands before the patches; None if there is no such place."""
    for node in graph.nodes:
        if node.op_type != "Concat" or len(node.input) != 2:
            continue
        makers = [graph.producer(name, "Transpose") for name in node.input]
        if sum(maker is not None for maker in makers) == 1:
            return makers[1] is not None
    return None
