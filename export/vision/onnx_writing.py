"""An ONNX file written with one weight in memory at a time; knows protobuf's format, not what the graph computes.

onnx's own writer holds every weight twice. Here the lengths, which protobuf writes first, follow from the shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from aesedge.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Tensors = Callable[[str], npt.NDArray[np.float32]]
    """Canonical name (see :mod:`.layouts`) to the tensor, in PyTorch's order of axes."""


@dataclass(frozen=True)
class Weight:
    """A tensor of the graph that is read when it is written."""

    name: str
    canonical: str
    shape: tuple[int, ...]
    """PyTorch's."""
    transposed: bool
    """Whether the graph holds it the other way round: MatMul reads [n_in, n_out]."""

    @property
    def n_bytes(self) -> int:
        """Size of its values."""
        return 4 * math.prod(self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """How it lies in the file."""
        return self.shape[::-1] if self.transposed else self.shape

    def header(self) -> bytes:
        """Return all of its place in the graph that comes before its values."""
        proto = TensorProto(name=self.name, data_type=TensorProto.FLOAT, dims=self.stored_shape)
        inner = proto.SerializeToString() + field_start(TensorProto, "raw_data", self.n_bytes)
        return field_start(onnx.GraphProto, "initializer", len(inner) + self.n_bytes) + inner

    def data(self, tensor: Tensors) -> bytes:
        """Return its values, little-endian.

        Raises:
            CheckpointError: the shape is another one, or a value is not finite.
        """
        array = tensor(self.canonical)
        if array.dtype != np.float32 or array.shape != self.shape:
            raise CheckpointError(
                f"'{self.canonical}' is {array.dtype} {list(array.shape)}, the tower has float32 {list(self.shape)}; "
                "use the files as they were published together"
            )
        if not np.isfinite(array).all():
            raise CheckpointError(f"'{self.canonical}' holds values that are not finite; download the file again")
        return (array.T if self.transposed else array).astype("<f4", copy=False).tobytes()


def check(model: onnx.ModelProto, weights: Sequence[Weight]) -> None:
    """Check nodes, types and shapes, with the weights as inputs: their values say nothing about those."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for weight in weights:
        bare.graph.input.append(helper.make_tensor_value_info(weight.name, TensorProto.FLOAT, weight.stored_shape))
    onnx.checker.check_model(bare, full_check=True)


def write(path: Path, model: onnx.ModelProto, weights: Sequence[Weight], tensor: Tensors) -> None:
    """Write a model and its weights.

    Args:
        path: the file.
        model: everything but the weights.
        weights: what they are called and how they lie.
        tensor: gives one by its canonical name, float32, in PyTorch's order of axes.

    Raises:
        CheckpointError: a tensor has another shape, or a value is not finite.
    """
    headers = [weight.header() for weight in weights]
    graph = model.graph.SerializeToString()
    n_graph_bytes = len(graph) + sum(len(h) + w.n_bytes for h, w in zip(headers, weights, strict=True))
    shell = onnx.ModelProto()
    shell.CopyFrom(model)
    shell.ClearField("graph")
    with path.open("wb") as file:
        file.write(shell.SerializeToString())
        file.write(field_start(onnx.ModelProto, "graph", n_graph_bytes))
        file.write(graph)
        for header, weight in zip(headers, weights, strict=True):
            file.write(header)
            file.write(weight.data(tensor))


def field_start(message: Any, name: str, n_bytes: int) -> bytes:
    """Return what stands before a field of so many bytes: its number, the mark of a length, the length."""
    return _varint(message.DESCRIPTOR.fields_by_name[name].number << 3 | 2) + _varint(n_bytes)


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + _varint(value >> 7)
