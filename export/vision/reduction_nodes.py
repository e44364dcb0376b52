"""Add the ONNX nodes that a reduction of image tokens is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from aesedge.vision.tower import N_INPUT

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from .onnx_graph import Graph

PREFIX = "/reduction/"
"""What the names of all nodes of a reduction begin with."""
TINY = 1e-20
"""Keeps a division from one by zero, and is nothing beside any float32 that an attention has."""


@dataclass(frozen=True)
class TowerTensors:
    """What a reduction reads."""

    rows: str
    """What goes to the projector, [batch, n_rows, hidden], in raster order."""
    query: str
    """Of the last attention that runs, [batch, n_rows + 1, hidden]."""
    key: str
    n_heads: int
    scale: float
    class_at: int
    """The class token's place among the keys. Rows are keys 1 to n_rows."""
    side: int
    """Rows of one side of the square that the image is divided into."""

    @property
    def n_rows(self) -> int:
        """Image tokens of an image that is not reduced."""
        return self.side**2


class Nodes:
    """The nodes of one reduction as they are added.

    Args:
        graph: takes the constants.
        output: what the last tensor is called.
        n_rows: rows of an image that is not reduced.
    """

    def __init__(self, graph: Graph, output: str, n_rows: int) -> None:
        self.made: list[onnx.NodeProto] = []
        self._graph, self._output = graph, output
        self.n = N_INPUT
        """How many rows are wanted, int64 [1]."""
        self.every = self.constant(np.arange(n_rows))
        """The place of every row, int64 [n_rows]."""

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output; return its name."""
        name = f"{PREFIX}{len(self.made)}/{kind}"
        output = output or f"{name}_output_0"
        self.made.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def ints(self, *values: int) -> str:
        """Return a constant, int64 [len(values)]."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """Return a constant, float32 []."""
        return self.constant(np.array(value, np.float32))

    def constant(self, values: npt.NDArray[Any]) -> str:
        """Return a constant's name; whole numbers are int64."""
        wide = values.astype(np.int64) if values.dtype.kind == "i" else values
        return self._graph.add_weight(f"{PREFIX}{len(self.made)}/{len(self._graph.weights)}", wide)

    def as_float(self, name: str) -> str:
        """Return a tensor in float32."""
        return self.add("Cast", name, to=TensorProto.FLOAT)

    def as_int(self, name: str) -> str:
        """Return a tensor in int64."""
        return self.add("Cast", name, to=TensorProto.INT64)

    def slice(self, name: str, axis: int, first: int, end: str | None = None) -> str:
        """Return a part of an axis; ``end`` is computed, and by default the axis's own."""
        last = end or self.ints(np.iinfo(np.int64).max)
        return self.add("Slice", name, self.ints(first), last, self.ints(axis))

    def unsqueeze(self, name: str, axis: int) -> str:
        """Return a tensor with one more axis."""
        return self.add("Unsqueeze", name, self.ints(axis))

    def sum(self, name: str, *axes: int, keepdims: int = 0) -> str:
        """Return sums along axes."""
        return self.add("ReduceSum", name, self.ints(*axes), keepdims=keepdims)

    def top(self, name: str, n: str, *, largest: int = 1) -> tuple[str, str]:
        """Return the n largest or least values of the last axis in order, and where they stood."""
        node = f"{PREFIX}{len(self.made)}/TopK"
        outputs = [f"{node}_values", f"{node}_places"]
        self.made.append(helper.make_node("TopK", [name, n], outputs, name=node, axis=-1, largest=largest, sorted=1))
        return outputs[0], outputs[1]

    def divided(self, weights: str) -> str:
        """Return weights [.., n, n_rows] that add up to one in every row."""
        return self.add("Div", weights, self.sum(weights, -1, keepdims=1))

    def pick(self, rows: str, places: str) -> None:
        """End with rows as they are: at places [n] of every image, or at [batch, n], each image's own."""
        self.mix(rows, self.as_float(self.is_at(places)))

    def is_at(self, places: str) -> str:
        """Return, for places [.., n], bool [.., n, n_rows]: true where a row is at its place."""
        return self.add("Equal", self.unsqueeze(places, -1), self.every)

    def mix(self, rows: str, weights: str) -> None:
        """End with averages of rows, by weights [n, n_rows] or [batch, n, n_rows] that add up to one.

        Rows that are picked have the weight 1: the product gives them bit for bit, as a Gather would. But a Gather in
        float16 would make ONNX Runtime round rows on the CPU that it keeps in float32 without it.
        """
        self.add("MatMul", self.add("CastLike", weights, rows), rows, output=self._output)
