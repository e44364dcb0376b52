"""Quantize the linears of a vision graph to 8 bits, with outliers moved into the weights (SmoothQuant).

Activations are quantized while running (one scale a tensor, unsigned 8 bits), weights beforehand (one scale an output
channel). A few input channels far above the rest would leave the others few steps. SmoothQuant (Xiao et al. 2023)
divides channel j by s_j = max|X_j|^a / max|W_j|^(1-a) and multiplies row j of the weights by it. The division costs
nothing where it folds into what makes the channel: a LayerNorm's gain and bias, or the value projection in front of
out_proj. Elsewhere it is one Mul, taken where it buys much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from onnx import helper

from .onnx_graph import CONTRIB, Graph
from .vision_fusion import attention_linears, bias_of, linears

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

FloatArray = npt.NDArray[np.float32]

# 7 bits. x86 processors without VNNI add two products u8*s8 in 16 bits and saturate: 2 * 255 * 127 does, 2 * 255 * 63
# does not. So the file computes the same everywhere, at full speed.
WEIGHT_MAX = 63
ALPHAS = (0.3, 0.45, 0.6, 0.75, 0.9)
MUL_MUST_GAIN = 0.5
"""A division that needs a Mul of its own is taken where the error falls at least to this share."""
_N_COLUMNS = 256  # output channels that the choice of alpha looks at: they are independent of each other


@dataclass
class Site:
    """What calibration photos brought to the input of one or more linears."""

    low: FloatArray
    """Least value of each channel, [n_in]."""
    high: FloatArray
    rows: FloatArray
    """Some of the rows, [n, n_in]."""


@dataclass
class Linear:
    """One product to quantize: a linear, or the projections of query, key and value side by side."""

    name: str
    nodes: list[onnx.NodeProto]
    fold: str = ""
    """What the division by s folds into: ``norm``, ``value``, or empty for a Mul."""
    smoothing: FloatArray | None = None
    """s, [n_in]; None leaves the input as it is."""
    error: float = 0.0
    """Expected square error relative to the output, on the calibration rows."""

    @property
    def input(self) -> str:
        """The tensor that it reads."""
        return str(self.nodes[0].input[0])

    def weight(self, graph: Graph) -> FloatArray:
        """Return its weights, [n_in, n_out]."""
        return np.concatenate([graph.weights[n.input[1]] for n in self.nodes], axis=1)


@dataclass
class Int8Plan:
    """Every linear of a graph with its smoothing."""

    linears: list[Linear] = field(default_factory=list)

    def sites(self) -> list[str]:
        """Return the tensors to look at, each once."""
        return list(dict.fromkeys(linear.input for linear in self.linears))

    def by_error(self) -> list[str]:
        """Return the names, the worst first."""
        return [linear.name for linear in sorted(self.linears, key=lambda linear: -linear.error)]


def find_linears(graph: Graph) -> Int8Plan:
    """Return the linears of an optimised graph, query, key and value together."""
    projections = attention_linears(graph)
    inside = {id(node) for nodes in projections for node in nodes}
    firsts = {id(nodes[0]): nodes for nodes in projections}
    plan = Int8Plan()
    for node in linears(graph):
        if id(node) in firsts:
            name = node.name.replace("q_proj", "qkv_proj")
            plan.linears.append(Linear(name, firsts[id(node)]))
        elif id(node) not in inside:
            plan.linears.append(Linear(node.name, [node]))
    for linear in plan.linears:
        linear.fold = _fold_of(graph, linear)
    return plan


def _fold_of(graph: Graph, linear: Linear) -> str:
    maker = graph.producer(linear.input, "LayerNormalization", "MultiHeadAttention")
    readers = {id(node) for node in graph.consumers(linear.input)}
    if maker is None or readers != {id(node) for node in linear.nodes}:
        return ""
    return "norm" if maker.op_type == "LayerNormalization" else "value"


def choose_smoothing(graph: Graph, plan: Int8Plan, sites: Mapping[str, Site]) -> None:
    """Set smoothing and expected error of each linear: the alpha of the least error, or none."""
    for linear in plan.linears:
        site, weight = sites[linear.input], linear.weight(graph)
        columns = weight[:, :: max(1, weight.shape[1] // _N_COLUMNS)]
        linear.smoothing, linear.error = None, expected_error(site, columns, None)
        needed = linear.error * (1.0 if linear.fold else MUL_MUST_GAIN)
        for alpha in ALPHAS:
            candidate = smoothing(site, weight, alpha)
            error = expected_error(site, columns, candidate)
            if error < min(linear.error, needed):
                linear.smoothing, linear.error = candidate, error


def smoothing(site: Site, weight: FloatArray, alpha: float) -> FloatArray:
    """Return s, float32 [n_in]: max|X_j|^alpha / max|W_j|^(1 - alpha), 1 for channels that are always 0."""
    x = np.maximum(np.abs(site.low), np.abs(site.high)).astype(np.float64)
    w = np.abs(weight).max(axis=1).astype(np.float64)
    known = (x > 0) & (w > 0)
    s = np.ones_like(x)
    s[known] = x[known] ** alpha / w[known] ** (1 - alpha)
    return np.asarray(s, np.float32)


def expected_error(site: Site, weight: FloatArray, s: FloatArray | None) -> float:
    """Return the mean square error of an 8-bit product relative to the exact one, over the calibration rows."""
    rows, low, high, scaled = site.rows, site.low, site.high, weight
    if s is not None:
        rows, low, high, scaled = rows / s, low / s, high / s, weight * s[:, None]
    least, most = min(0.0, float(low.min())), max(0.0, float(high.max()))
    step = (most - least) / 255 or 1.0
    zero = np.rint(-least / step)
    quantized = (np.clip(np.rint(rows / step) + zero, 0, 255) - zero) * np.float32(step)
    weights, scale = quantize_weight(scaled)
    exact = site.rows @ weight
    wrong = quantized.astype(np.float32) @ (weights * scale) - exact
    return float((np.square(wrong).sum(axis=1) / np.maximum(np.square(exact).sum(axis=1), 1e-30)).mean())


def quantize_weight(weight: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Return int8 [n_in, n_out] and the scale of each output channel, float32 [n_out]."""
    scale = np.abs(weight).max(axis=0) / np.float32(WEIGHT_MAX)
    scale[scale == 0] = 1.0
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def quantize(graph: Graph, plan: Int8Plan, in_fp32: Collection[str] = ()) -> None:
    """Rewrite a graph in place: the plan's linears in 8 bits, but for those named.

    Args:
        graph: the one that the plan was made for, or the same file read again.
        plan: as :func:`choose_smoothing` left it.
        in_fp32: names of linears that stay.
    """
    nodes = {node.name: node for node in graph.nodes}
    chosen = [
        Linear(linear.name, [nodes[n.name] for n in linear.nodes], linear.fold, linear.smoothing)
        for linear in plan.linears
        if linear.name not in in_fp32
    ]
    for linear in chosen:  # all divisions first: one linear's may change the weights of another
        if linear.smoothing is not None and linear.fold:
            _divide(graph, linear, linear.smoothing)
    for linear in chosen:
        _quantize_linear(graph, linear)
    graph.prune()


def _divide(graph: Graph, linear: Linear, s: FloatArray) -> None:
    """Divide what a linear reads by s, in the weights of what makes it."""
    maker = graph.producer(linear.input)
    places = [] if maker is None else [(maker, 1), (maker, 2)]
    if maker is not None and linear.fold == "value":
        value = next(nodes[2] for nodes in attention_linears(graph) if _feeds(graph, nodes[2], maker))
        bias = bias_of(graph, value)
        places = [(value, 1)] if bias is None else [(value, 1), (bias[0], list(bias[0].input).index(bias[1]))]
    for node, i in places:
        divided = graph.weights[node.input[i]] / s
        # Called after the linear: two norms may read one weight, and each needs its own.
        node.input[i] = graph.add_weight(f"{linear.name}.smoothed_{node.op_type}_{i}", divided)
    graph.index()


def _feeds(graph: Graph, value: onnx.NodeProto, attention: onnx.NodeProto) -> bool:
    """Return whether a linear, with its bias, is an attention's value."""
    bias = bias_of(graph, value)
    return bool(attention.input[2] == (value.output[0] if bias is None else bias[0].output[0]))


def _quantize_linear(graph: Graph, linear: Linear) -> None:
    weight, s, x, name = linear.weight(graph), linear.smoothing, linear.input, linear.name
    new = []
    if s is not None:
        weight = weight * s[:, None]
        if not linear.fold:
            factor = graph.add_weight(f"{name}.smoothing", 1 / s)
            new.append(helper.make_node("Mul", [x, factor], [f"{name}.smoothed"], name=f"{name}.smooth"))
            x = f"{name}.smoothed"
    values, scale = quantize_weight(weight)
    outputs, bias, old = _outputs_and_bias(graph, linear)
    inputs = [f"{name}.{part}" for part in ("input", "input_scale", "input_zero_point")]
    new.append(helper.make_node("DynamicQuantizeLinear", [x], inputs, name=f"{name}.quantize"))
    w = graph.add_weight(f"{name}.weight_int8", values)
    w_scale = graph.add_weight(f"{name}.weight_scale", scale)
    b = [] if bias is None else [graph.add_weight(f"{name}.bias_fp32", bias)]
    operands = [inputs[0], w, inputs[1], w_scale, inputs[2], "", *b]
    together = outputs[0] if len(outputs) == 1 else f"{name}.together"
    new.append(helper.make_node("MatMulIntegerToFloat", operands, [together], name=name, domain=CONTRIB))
    if len(outputs) > 1:
        widths = np.array([graph.weights[node.input[1]].shape[1] for node in linear.nodes], np.int64)
        parts = [together, graph.add_weight(f"{name}.widths", widths)]
        new.append(helper.make_node("Split", parts, outputs, name=f"{name}.split", axis=-1))
    graph.replace(old, new)


def _outputs_and_bias(graph: Graph, linear: Linear) -> tuple[list[str], FloatArray | None, list[onnx.NodeProto]]:
    """Return the tensors that the linears make, their biases side by side, and the nodes that go."""
    found = [bias_of(graph, node) for node in linear.nodes]
    if any(bias is None for bias in found):
        return [node.output[0] for node in linear.nodes], None, list(linear.nodes)
    biases = [bias for bias in found if bias is not None]
    adds = [add for add, _ in biases]
    values = np.concatenate([graph.weights[name] for _, name in biases])
    return [add.output[0] for add in adds], values, [*linear.nodes, *adds]
