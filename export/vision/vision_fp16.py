"""Convert a vision graph to half precision: float16 inside, float32 inputs and outputs.

float16 ends at 65504. A node one of whose tensors came near that on photos stays in float32, with casts around it.
LayerNormalization, Softmax inside MultiHeadAttention and the sums of products are computed in float32 by ONNX Runtime's
kernels, whatever the type of their inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from .onnx_graph import Graph

LARGEST = 65504.0
MARGIN = 4.0
"""Photos to come may bring this many times what those of the calibration brought."""


def float_tensors(graph: Graph) -> list[str]:
    """Return the computed tensors that hold floats, in the order in which they are made."""
    floats = set(graph.inputs) | _float_weights(graph)
    found: list[str] = []
    for node in graph.nodes:
        if node.op_type != "Shape" and floats.intersection(node.input):
            floats.update(node.output)
            found.extend(name for name in node.output if name)
    return found


def _float_weights(graph: Graph) -> set[str]:
    return {name for name, values in graph.weights.items() if values.dtype == np.float32}


def convert(graph: Graph, ranges: Mapping[str, float]) -> list[str]:
    """Rewrite a float32 graph in place for half precision.

    Args:
        graph: an optimised graph.
        ranges: largest absolute value of each of :func:`float_tensors`.

    Returns:
        Names of the nodes that stay in float32.
    """
    limit = LARGEST / MARGIN
    weights = _float_weights(graph)
    largest = {**ranges, **{name: float(np.abs(graph.weights[name]).max(initial=0.0)) for name in weights}}
    halves = _Halves(graph, {*graph.inputs, *ranges}, weights)
    kept = []
    for node in list(graph.nodes):
        # "not <=" and not ">": a value that is not a number is too large as well.
        is_wide = any(not largest.get(name, 0.0) <= limit for name in [*node.input, *node.output])
        if is_wide and node.op_type != "Shape":
            kept.append(str(node.name))
        halves.add(node, TensorProto.FLOAT if is_wide else TensorProto.FLOAT16)
    halves.finish()
    return kept


class _Halves:
    """The rewritten nodes as they are added, with a cast wherever two types meet."""

    def __init__(self, graph: Graph, floats: Collection[str], weights: Collection[str]) -> None:
        self._graph = graph
        self._floats, self._weights = floats, weights
        self._types = dict.fromkeys(graph.inputs, TensorProto.FLOAT)
        self._nodes: list[onnx.NodeProto] = []

    def add(self, node: onnx.NodeProto, to: int) -> None:
        """Add a node that computes in a type; one that reads a tensor's shape takes it as it is."""
        if node.op_type != "Shape":
            for i, name in enumerate(node.input):
                node.input[i] = self._as(name, to)
            self._types.update((name, to) for name in node.output if name in self._floats)
        for i, name in enumerate(node.output):
            if name in self._graph.outputs and to == TensorProto.FLOAT16:
                node.output[i] = f"{name}.half"
                self._nodes.append(node)
                self._nodes.append(_cast(f"{name}.half", name, TensorProto.FLOAT))
                return
        self._nodes.append(node)

    def _as(self, name: str, to: int) -> str:
        """Return the name of a tensor in a type, which a cast makes where it is another one."""
        here = self._types.get(name, TensorProto.FLOAT if name in self._weights else to)
        if here == to:
            return name
        other = f"{name}.{'half' if to == TensorProto.FLOAT16 else 'float'}"
        if other not in self._types:
            self._types[other] = to
            if name in self._weights:
                self._graph.add_weight(other, self._graph.weights[name].astype(np.float16))
            else:
                self._nodes.append(_cast(name, other, to))
        return other

    def finish(self) -> None:
        """Replace the graph's nodes."""
        self._graph.nodes = self._nodes
        self._graph.prune()


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=to)
