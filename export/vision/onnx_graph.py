"""Edit an ONNX graph in memory: look up, replace and drop nodes and constants.

Needs the extra [convert]; no torch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import MissingExtraError, UsageError

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    raise MissingExtraError("the package onnx is not installed", "convert") from None

from .onnx_file import read_model, reference_to, write_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


class Graph:
    """A model whose nodes and constants can be looked up, replaced and dropped.

    Large weights stay in the file and are read where they are used: the file must stay as it is meanwhile.

    Args:
        path: the file.

    Raises:
        ModelLoadError: it holds no ONNX model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shell, self.weights = read_model(path)
        self.nodes: list[onnx.NodeProto] = []
        for node in self._shell.graph.node:
            if node.op_type == "Constant":  # constants are weights: one place to look
                self.weights[node.output[0]] = _value_of(node)
            else:
                self.nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        del self._shell.graph.node[:]
        del self._shell.graph.value_info[:]  # shapes inferred for the nodes of before
        self.inputs = [value.name for value in self._shell.graph.input]
        self.outputs = [value.name for value in self._shell.graph.output]
        self.index()

    def index(self) -> None:
        """Index producers and consumers again, after nodes have changed."""
        self._producer = {name: node for node in self.nodes for name in node.output if name}
        self._consumers = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self._consumers[name].append(node)

    def producer(self, name: str, *op_types: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor, if its operator is one of those given."""
        node = self._producer.get(name)
        return node if node is not None and (not op_types or node.op_type in op_types) else None

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, each once."""
        return self._consumers[name]

    def only_consumer(self, name: str, *op_types: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor, if it is alone and its operator is one of those given."""
        nodes = self._consumers[name]
        if len(nodes) != 1 or name in self.outputs:
            return None
        return nodes[0] if not op_types or nodes[0].op_type in op_types else None

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return a constant's values, or None if the tensor is computed."""
        return self.weights.get(name)

    def scalar(self, name: str) -> float | None:
        """Return a constant of one element, or None."""
        values = self.weights.get(name)
        return float(values.reshape(())) if values is not None and values.size == 1 else None

    def other_input(self, node: onnx.NodeProto, name: str) -> str:
        """Return the other input of a node that has two."""
        return str(node.input[1] if node.input[0] == name else node.input[0])

    def add_weight(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant; return its name."""
        self.weights[name] = values
        return name

    def rename_weight(self, old: str, new: str) -> None:
        """Rename a constant wherever it is read."""
        if old == new or old not in self.weights or new in self.weights:
            return
        self.weights[new] = self.weights.pop(old)
        for node in self._consumers[old]:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
        self._consumers[new] = self._consumers.pop(old)

    def replace(self, old: Iterable[onnx.NodeProto], new: Iterable[onnx.NodeProto]) -> None:
        """Replace nodes by new ones in the place of the last old one; other outputs of the old ones must be unused."""
        gone = {id(node) for node in old}
        places = [i for i, node in enumerate(self.nodes) if id(node) in gone]
        after = self.nodes[places[-1] + 1 :]
        self.nodes = [node for node in self.nodes[: places[-1]] if id(node) not in gone] + list(new) + after
        self.index()

    def insert_behind(self, name: str, node: onnx.NodeProto) -> None:
        """Insert a node right after the one that computes a tensor."""
        maker = self._producer.get(name)
        place = 0 if maker is None else next(i for i, n in enumerate(self.nodes) if n is maker) + 1
        self.nodes.insert(place, node)
        self._producer.update((output, node) for output in node.output)
        for read in node.input:
            self._consumers[read].append(node)

    def bypass(self, node: onnx.NodeProto) -> None:
        """Drop a node that hands on its first input as its first output."""
        source, target = node.input[0], node.output[0]
        for consumer in self._consumers[target]:
            for i, name in enumerate(consumer.input):
                if name == target:
                    consumer.input[i] = source
        self.nodes.remove(node)
        self.index()

    def prune(self) -> None:
        """Drop the nodes and constants that no output needs."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.weights = {name: tensor for name, tensor in self.weights.items() if name in needed}
        self.index()

    def count(self) -> Counter[str]:
        """Return how many nodes there are of each operator."""
        return Counter(node.op_type for node in self.nodes)

    def dims(self, output: str) -> list[int | str]:
        """Return the shape of an output, names for what is open."""
        value = next(v for v in self._shell.graph.output if v.name == output)
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    def set_dim(self, output: str, axis: int, size: str | int) -> None:
        """Set one axis of an output's shape, a name where it is open."""
        value = next(v for v in self._shell.graph.output if v.name == output)
        dim = value.type.tensor_type.shape.dim[axis]
        dim.Clear()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size

    def add_input(self, name: str, kind: int, shape: Sequence[str | int]) -> None:
        """Add an input of a type of ``TensorProto``, behind those that are there."""
        self._shell.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        self.inputs.append(name)

    def drop_input(self, name: str) -> None:
        """Remove an input that no node reads."""
        self._shell.graph.input.remove(next(v for v in self._shell.graph.input if v.name == name))
        self.inputs.remove(name)

    def metadata(self) -> dict[str, str]:
        """Return what the file says about itself."""
        return {entry.key: entry.value for entry in self._shell.metadata_props}

    def describe(self, **facts: object) -> None:
        """Set entries of the metadata, and remove those given as None."""
        known = {**self.metadata(), **facts}
        helper.set_model_props(self._shell, {key: str(value) for key, value in known.items() if value is not None})

    def add_output(self, name: str, shape: Sequence[str | int]) -> None:
        """Make a computed float32 tensor an output, behind those that are there."""
        self._shell.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.outputs.append(name)

    def save(self, path: Path) -> None:
        """Write a file of its own, one weight in memory at a time.

        Raises:
            UsageError: it is the file that the weights are read from.
        """
        if path.exists() and path.samefile(self.path):
            raise UsageError(f"{path}: a graph cannot be written over the file that it is read from")
        write_model(path, self._model(), self.weights)

    def save_beside(self, path: Path) -> None:
        """Write the nodes alone, for a short while: the large weights are read from the file they came from.

        Args:
            path: in the same folder as that file.
        """
        model = self._model()
        for name, values in self.weights.items():
            model.graph.initializer.append(reference_to(self.path, name, values))
        path.write_bytes(model.SerializeToString())

    def _model(self) -> onnx.ModelProto:
        """Return everything but the weights."""
        model = onnx.ModelProto()
        model.CopyFrom(self._shell)
        model.graph.node.extend(self.nodes)
        domains = {entry.domain for entry in model.opset_import}
        if CONTRIB not in domains and any(node.domain == CONTRIB for node in self.nodes):
            model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        return model


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute, or the default."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _value_of(node: onnx.NodeProto) -> npt.NDArray[Any]:
    """Return the value of a Constant node."""
    kind = node.attribute[0]
    value = helper.get_attribute_value(kind)
    if kind.name == "value":
        return np.array(numpy_helper.to_array(value))
    return np.array(value, np.int64 if kind.name.startswith("value_int") else np.float32)
