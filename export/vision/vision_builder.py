"""Write the float32 vision graph node by node from tensors, without PyTorch.

The same graph as :mod:`.vision_graph` exports, for where there is no PyTorch: the same input, output, metadata and
opset, the same names of nodes, and the same patterns of operators, so that ONNX Runtime fuses both alike. What the
exporter computes from the batch's shape at run time is a constant here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aesedge.errors import CheckpointError
from aesedge.system.byte_sizes import size_text
from aesedge.vision.tower import INPUT, OUTPUT

from ..checkpoint import layouts
from .onnx_file import LazyWeight, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Tensors = Callable[[str], npt.NDArray[np.float32]]
    """Canonical name (see :mod:`.layouts`) to the tensor, in PyTorch's order of axes."""

OPSET = 17
_IR_VERSION = 8  # what torch writes for this opset
_MAX_BYTES = 2**31 - 2**20  # protobuf's limit of one file, less room for the graph itself
_QUICK_GELU = 1.702


@dataclass(frozen=True)
class VisionShape:
    """Everything about a tower and its projector that is not a weight."""

    image_size: int
    patch_size: int
    hidden: int
    """Width of the tower."""
    n_heads: int
    n_layers: int
    """Layers that run; the projector reads the last one's output."""
    intermediate: int
    """Width between the two linears of a layer's MLP."""
    n_embd: int
    """Width of the language model."""
    layer_norm_eps: float = 1e-5
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """``gelu`` is the exact one, by erf."""
    projector_bias: bool = True
    patch_bias: bool = False
    post_norm: bool = False
    """Whether CLIP's last layer norm stands before the projector; LLaVA has none there."""
    class_last: bool = False
    """Whether the class token joins behind the patches; CLIP's is the first. Row 0 is what the projector leaves out."""

    @property
    def n_image_tokens(self) -> int:
        """Patches of one image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def n_bytes(self) -> int:
        """Size of the weights in float32."""
        return 4 * sum(math.prod(shape) for shape in self.tensor_shapes().values())

    def tensor_shapes(self) -> layouts.Shapes:
        """Return canonical name and shape of every tensor that the graph is made of."""
        vision: Any = SimpleNamespace(
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            image_size=self.image_size,
            patch_size=self.patch_size,
            num_channels=3,
        )
        shapes = layouts.tower_shapes(vision, self.n_layers)
        if self.patch_bias:
            shapes["vision_tower.embeddings.patch_embedding.bias"] = (self.hidden,)
        if self.post_norm:
            for kind in ("weight", "bias"):
                shapes[f"vision_tower.post_layernorm.{kind}"] = (self.hidden,)
        text: Any = SimpleNamespace(hidden_size=self.n_embd)
        return {**shapes, **layouts.projector_shapes(text, vision, bias=self.projector_bias)}


def write_from_tensors(shape: VisionShape, tensor: Tensors, path: Path, *, facts: Mapping[str, object]) -> None:
    """Write the float32 graph: what :func:`.vision_graph.write_fp32` writes, before any optimisation.

    One tensor is in memory at a time.

    Args:
        shape: the tower's shape.
        tensor: gives a tensor by its canonical name, float32, shaped as ``shape.tensor_shapes()`` says.
        path: the file to write.
        facts: what else the graph's metadata say, e.g. ``{"checkpoint": "llava-v1.5-7b"}``.

    Raises:
        CheckpointError: a tensor has another shape, a value is not finite, or the graph does not fit into one file.
    """
    if shape.n_bytes > _MAX_BYTES:
        raise CheckpointError(
            f"the vision tower takes {size_text(shape.n_bytes)} in float32, one ONNX file holds "
            f"{size_text(_MAX_BYTES)}; this cannot be exported"
        )
    graph = _Graph(shape, tensor)
    graph.build()
    model = _model(graph, shape, facts)
    bare = onnx.ModelProto()  # for the checker the weights are inputs: their values say nothing about types and shapes
    bare.CopyFrom(model)
    for weight in graph.weights:
        bare.graph.input.append(helper.make_tensor_value_info(weight.name, TensorProto.FLOAT, weight.shape))
    onnx.checker.check_model(bare, full_check=True)
    write_model(path, model, graph.weights)


def _values(tensor: Tensors, canonical: str, shape: tuple[int, ...], *, transposed: bool) -> npt.NDArray[np.float32]:
    """Return a weight as the graph holds it, little-endian.

    Raises:
        CheckpointError: the shape is wrong, or a value is not finite.
    """
    array = tensor(canonical)
    if array.dtype != np.float32 or array.shape != shape:
        raise CheckpointError(
            f"'{canonical}' is {array.dtype} {list(array.shape)}, the tower has float32 {list(shape)}; "
            "use the files as they were published together"
        )
    if not np.isfinite(array).all():
        raise CheckpointError(f"'{canonical}' holds values that are not finite; download the file again")
    return (array.T if transposed else array).astype("<f4", copy=False)


def _model(graph: _Graph, shape: VisionShape, facts: Mapping[str, object]) -> onnx.ModelProto:
    """Return the model without its weights."""
    side = shape.image_size
    pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, side, side])
    rows = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", shape.n_image_tokens, shape.n_embd])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "main_graph", [pixels], [rows], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="aesedge",
    )
    metadata = {
        "role": "vision",
        **facts,
        "image_size": side,
        "patch_size": shape.patch_size,
        "n_image_tokens": shape.n_image_tokens,
        "n_embd": shape.n_embd,
    }
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model


class _Graph:
    """Nodes and weights as they are added; a value is called after the node that makes it, as torch does."""

    def __init__(self, shape: VisionShape, tensor: Tensors) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights: list[LazyWeight] = []
        self._tensor = tensor
        self._shape = shape
        self._shapes = shape.tensor_shapes()

    def build(self) -> None:
        """Add everything from the pixels to the image embeddings."""
        hidden = self._norm("/pre_layrnorm", self._embeddings())
        for i in range(self._shape.n_layers):
            hidden = self._layer(i, hidden)
        if self._shape.post_norm:
            hidden = self._norm("/post_layernorm", hidden)
        last = self._ints("rows.end", [np.iinfo(np.int64).max])
        bounds = [self._ints("rows.start", [1]), last, self._ints("rows.axis", [1]), self._ints("rows.step", [1])]
        patches = self._add("Slice", "/Slice", [hidden, *bounds])
        up = self._linear("/projector/linear_1", patches)
        self._linear("/projector/linear_2", self._gelu("/projector/gelu", up), output=OUTPUT)

    def _embeddings(self) -> str:
        """Add the patch convolution, the class token and the positions; return the name of [batch, 1 + n, hidden]."""
        shape, at = self._shape, "/embeddings"
        size = [shape.patch_size] * 2
        weights = [self._weight(f"{at}/patch_embedding", "weight")]
        if shape.patch_bias:
            weights.append(self._weight(f"{at}/patch_embedding", "bias"))
        options: dict[str, Any] = {
            "dilations": [1, 1],
            "group": 1,
            "kernel_shape": size,
            "pads": [0] * 4,
            "strides": size,
        }
        patches = self._add("Conv", f"{at}/patch_embedding/Conv", [INPUT, *weights], **options)
        columns = self._ints("embeddings.columns", [0, shape.hidden, -1])
        patches = self._add("Reshape", f"{at}/Reshape", [patches, columns], allowzero=0)
        patches = self._add("Transpose", f"{at}/Transpose", [patches], perm=[0, 2, 1])
        batch = self._add("Shape", f"{at}/Shape", [INPUT], start=0, end=1)
        repeats = self._add("Concat", f"{at}/Concat_1", [batch, self._ints("embeddings.one", [1, 1])], axis=0)
        class_row = self._add("Expand", f"{at}/Expand", [self._weight(at, "class_embedding"), repeats])
        together = [patches, class_row] if shape.class_last else [class_row, patches]
        everything = self._add("Concat", f"{at}/Concat_2", together, axis=1)
        return self._add("Add", f"{at}/Add", [everything, self._weight(f"{at}/position_embedding", "weight")])

    def _layer(self, i: int, hidden: str) -> str:
        at = f"/encoder/layers.{i}"
        attended = self._attention(f"{at}/self_attn", self._norm(f"{at}/layer_norm1", hidden))
        hidden = self._add("Add", f"{at}/Add", [hidden, attended])
        up = self._linear(f"{at}/mlp/fc1", self._norm(f"{at}/layer_norm2", hidden))
        act = self._quick_gelu if self._shape.hidden_act == "quick_gelu" else self._gelu
        down = self._linear(f"{at}/mlp/fc2", act(f"{at}/mlp/activation_fn", up))
        return self._add("Add", f"{at}/Add_1", [hidden, down])

    def _attention(self, at: str, hidden: str) -> str:
        width, n_heads = self._shape.hidden, self._shape.n_heads
        projected = [self._linear(f"{at}/{kind}_proj", hidden) for kind in "qkv"]
        heads = self._ints("heads", [0, 0, -1, width // n_heads])
        q, k, v = (
            self._add("Reshape", f"{at}/Reshape{suffix}", [rows, heads], allowzero=0)
            for rows, suffix in zip(projected, ("", "_1", "_2"), strict=True)
        )
        q = self._add("Transpose", f"{at}/Transpose", [q], perm=[0, 2, 1, 3])
        v = self._add("Transpose", f"{at}/Transpose_1", [v], perm=[0, 2, 1, 3])
        k = self._add("Transpose", f"{at}/Transpose_2", [k], perm=[0, 2, 3, 1])
        scale = self._number("heads.scale", (width // n_heads) ** -0.5)
        scores = self._add("Mul", f"{at}/Mul", [self._add("MatMul", f"{at}/MatMul", [q, k]), scale])
        weights = self._add("Softmax", f"{at}/Softmax", [scores], axis=-1)
        mixed = self._add("MatMul", f"{at}/MatMul_1", [weights, v])
        mixed = self._add("Transpose", f"{at}/Transpose_3", [mixed], perm=[0, 2, 1, 3])
        merged = self._add("Reshape", f"{at}/Reshape_3", [mixed, self._ints("merged", [0, 0, width])], allowzero=0)
        return self._linear(f"{at}/out_proj", merged)

    def _linear(self, at: str, rows: str, *, output: str | None = None) -> str:
        product = self._add("MatMul", f"{at}/MatMul", [rows, self._weight(at, "weight", transposed=True)])
        if at.startswith("/projector") and not self._shape.projector_bias:
            if output is not None:
                self.nodes[-1].output[0] = output
            return product
        return self._add("Add", f"{at}/Add", [self._weight(at, "bias"), product], output=output)

    def _norm(self, at: str, rows: str) -> str:
        inputs = [rows, self._weight(at, "weight"), self._weight(at, "bias")]
        epsilon = self._shape.layer_norm_eps
        return self._add("LayerNormalization", f"{at}/LayerNormalization", inputs, axis=-1, epsilon=epsilon)

    def _quick_gelu(self, at: str, rows: str) -> str:
        steep = self._add("Mul", f"{at}/Mul", [rows, self._number("quick_gelu.steepness", _QUICK_GELU)])
        return self._add("Mul", f"{at}/Mul_1", [rows, self._add("Sigmoid", f"{at}/Sigmoid", [steep])])

    def _gelu(self, at: str, rows: str) -> str:
        scaled = self._add("Div", f"{at}/Div", [rows, self._number("gelu.sqrt2", 2**0.5)])
        share = self._add("Erf", f"{at}/Erf", [scaled])
        share = self._add("Add", f"{at}/Add", [share, self._number("gelu.one", 1.0)])
        doubled = self._add("Mul", f"{at}/Mul", [rows, share])
        return self._add("Mul", f"{at}/Mul_1", [doubled, self._number("gelu.half", 0.5)])

    def _add(self, kind: str, name: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = output or f"{name}_output_0"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def _weight(self, at: str, kind: str, *, transposed: bool = False) -> str:
        """Add a tensor of a part (``/encoder/layers.0/mlp/fc1``); return its name. MatMul reads it transposed."""
        name = f"{at[1:].replace('/', '.')}.{kind}"
        canonical = f"multi_modal_{name}" if name.startswith("projector.") else f"vision_tower.{name}"
        shape = self._shapes[canonical]
        values = partial(_values, self._tensor, canonical, shape, transposed=transposed)
        self.weights.append(LazyWeight(name, np.dtype(np.float32), shape[::-1] if transposed else shape, values))
        return name

    def _ints(self, name: str, values: Sequence[int]) -> str:
        return self._constant(numpy_helper.from_array(np.array(values, np.int64), name))

    def _number(self, name: str, value: float) -> str:
        return self._constant(numpy_helper.from_array(np.array(value, np.float32), name))

    def _constant(self, tensor: onnx.TensorProto) -> str:
        if all(constant.name != tensor.name for constant in self.constants):
            self.constants.append(tensor)
        return str(tensor.name)
