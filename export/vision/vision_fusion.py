"""Fuse a vision graph's nodes into ONNX Runtime's operators: attention, QuickGelu, Gelu.

What is left out on purpose, by measurement on ViT-L/336 (2 threads, CPU): SkipLayerNormalization takes 4 ms where Add
and LayerNormalization take 0.6 ms; Attention, which has the three projections inside, is not faster than
MultiHeadAttention behind them and hides their weights from fp16 and int8. BiasGelu is fused by ONNX Runtime itself
while loading. No layout of one processor (NCHWc) is baked in: the file runs everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnx import helper

from aesedge.errors import ParityError

from .onnx_graph import CONTRIB, Graph, attribute

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_HEADS_FIRST, _HEADS_FIRST_TRANSPOSED = [0, 2, 1, 3], [0, 2, 3, 1]
_QUICK_GELU = 1.702


def optimize(raw: Path, path: Path) -> dict[str, int]:
    """Rewrite a vision graph in float32 with fused operators; input, output, metadata and opset stay.

    Args:
        raw: what PyTorch's exporter or :mod:`.vision_builder` wrote.
        path: the file to write; another one than ``raw``, whose weights are read while it is written.

    Returns:
        How many nodes there are of each fused operator.

    Raises:
        ParityError: an attention of the graph is in no known form.
    """
    graph = Graph(raw)
    _unshare(graph)
    _drop_casts(graph)
    for node in [n for n in graph.nodes if n.op_type == "Softmax"]:
        _fuse_attention(graph, node)
    for node in [n for n in graph.nodes if n.op_type == "Sigmoid"]:
        _fuse_quick_gelu(graph, node)
    for node in [n for n in graph.nodes if n.op_type == "Erf"]:
        _fuse_gelu(graph, node)
    graph.prune()
    n_left = graph.count()["Softmax"]
    if n_left:
        raise ParityError(f"{raw.name}: {n_left} attentions of this graph are in no known form; please report this")
    name_linears(graph)
    graph.save(path)
    return {op: n for op, n in graph.count().items() if op in {"MultiHeadAttention", "QuickGelu", "Gelu"}}


def linears(graph: Graph) -> list[onnx.NodeProto]:
    """Return the products with a weight matrix, in the order in which they run."""
    weights = graph.weights
    return [n for n in graph.nodes if n.op_type == "MatMul" and n.input[1] in weights and n.input[0] not in weights]


def bias_of(graph: Graph, linear: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | None:
    """Return the Add behind a linear and the name of its bias, or None if there is none."""
    add = graph.only_consumer(linear.output[0], "Add")
    if add is None:
        return None
    name = graph.other_input(add, linear.output[0])
    bias = graph.constant(name)
    return (add, name) if bias is not None and bias.ndim == 1 else None


def attention_linears(graph: Graph) -> list[list[onnx.NodeProto]]:
    """Return the linears of query, key and value of each attention, in the order in which they run."""
    of_rows = {}
    for node in linears(graph):
        bias = bias_of(graph, node)
        of_rows[node.output[0] if bias is None else bias[0].output[0]] = node
    attentions = [n for n in graph.nodes if n.op_type == "MultiHeadAttention"]
    return [[of_rows[name] for name in n.input[:3] if name in of_rows] for n in attentions]


def name_linears(graph: Graph) -> None:
    """Name linears and their weights as checkpoints do (``encoder.layers.3.mlp.fc2``).

    Raises:
        ParityError: they are not those of a tower and a projector.
    """
    projections = attention_linears(graph)
    inside = {id(node) for nodes in projections for node in nodes}
    others = [node for node in linears(graph) if id(node) not in inside]
    if any(len(nodes) != 3 for nodes in projections) or len(others) != 3 * len(projections) + 2:
        raise ParityError(
            f"the graph has {len(inside) + len(others)} linears and {len(projections)} attentions: not those of a CLIP "
            "tower with a projector of two; please report this"
        )
    named = {}
    for i, nodes in enumerate(projections):
        named.update({f"encoder.layers.{i}.self_attn.{part}_proj": n for part, n in zip("qkv", nodes, strict=True)})
        parts = ("self_attn.out_proj", "mlp.fc1", "mlp.fc2")
        named.update({f"encoder.layers.{i}.{part}": n for part, n in zip(parts, others[3 * i :], strict=False)})
    named.update({"projector.linear_1": others[-2], "projector.linear_2": others[-1]})
    for name, node in named.items():
        bias = bias_of(graph, node)
        node.name = name
        graph.rename_weight(node.input[1], f"{name}.weight")
        if bias is not None:
            graph.rename_weight(bias[1], f"{name}.bias")


def _unshare(graph: Graph) -> None:
    """Duplicate shared weights, which PyTorch's exporter writes once: int8 changes some of them."""
    for node in [n for n in graph.nodes if n.op_type == "Identity"]:
        values = graph.constant(node.input[0])
        if values is not None:
            graph.nodes.remove(node)
            graph.add_weight(node.output[0], values.copy())
    graph.index()


def _drop_casts(graph: Graph) -> None:
    """Drop casts to float32: all that such a graph computes with is float32 already, but for shapes."""
    for node in [n for n in graph.nodes if n.op_type == "Cast" and attribute(n, "to") == 1]:
        maker = graph.producer(node.input[0])
        if maker is None or maker.op_type not in {"Shape", "Gather", "Cast"}:
            graph.bypass(node)


def _fuse_attention(graph: Graph, softmax: onnx.NodeProto) -> None:
    """Replace Softmax(Q K scale) V, with the transposes around it, by MultiHeadAttention."""
    scores, scale = _unscaled(graph, softmax.input[0])
    product = graph.producer(scores, "MatMul")
    mixing = graph.only_consumer(softmax.output[0], "MatMul")
    if product is None or mixing is None:
        return
    q_side, q_scale = _unscaled(graph, product.input[0])
    k_side, k_scale = _unscaled(graph, product.input[1])
    q, k, v = (
        _rows_behind(graph, q_side, _HEADS_FIRST),
        _rows_behind(graph, k_side, _HEADS_FIRST_TRANSPOSED),
        _rows_behind(graph, mixing.input[1], _HEADS_FIRST),
    )
    back = graph.only_consumer(mixing.output[0], "Transpose")
    merged = graph.only_consumer(back.output[0], "Reshape") if back is not None else None
    if q is None or k is None or v is None or merged is None or attribute(back, "perm") != _HEADS_FIRST:
        return
    fused = helper.make_node(
        "MultiHeadAttention",
        [q[0], k[0], v[0]],
        [merged.output[0]],
        name=softmax.name.replace("/Softmax", "/MultiHeadAttention"),
        domain=CONTRIB,
        num_heads=q[1],
        scale=scale * q_scale * k_scale,
    )
    graph.replace([merged], [fused])


def _unscaled(graph: Graph, name: str) -> tuple[str, float]:
    """Return a tensor before multiplications with constants, and their product."""
    scale = 1.0
    while (node := graph.producer(name, "Mul", "Div")) is not None:
        operands = [graph.scalar(i) for i in node.input]
        if operands[1] is not None:
            scale *= operands[1] if node.op_type == "Mul" else 1 / operands[1]
            name = node.input[0]
        elif operands[0] is not None and node.op_type == "Mul":
            scale *= operands[0]
            name = node.input[1]
        else:
            break
    return name, scale


def _rows_behind(graph: Graph, name: str, perm: list[int]) -> tuple[str, int] | None:
    """Return the rows [batch, n, width] that were split into heads and transposed, and the number of heads."""
    transpose = graph.producer(name, "Transpose")
    if transpose is None or attribute(transpose, "perm") != perm:
        return None
    reshape = graph.producer(transpose.input[0], "Reshape")
    if reshape is None:
        return None
    rows = reshape.input[0]
    n_heads, head_width = _last_two(graph, reshape.input[1])
    if n_heads < 1:
        add = graph.producer(rows, "Add")
        bias = next((c for c in map(graph.constant, add.input if add is not None else []) if c is not None), None)
        n_heads = len(bias) // head_width if bias is not None and head_width > 0 else 0
    return (rows, n_heads) if n_heads > 0 else None


def _last_two(graph: Graph, name: str) -> tuple[int, int]:
    """Return the last two numbers of a shape, -1 for those that are computed."""
    values = graph.constant(name)
    if values is not None:
        return int(values[-2]), int(values[-1])
    concat = graph.producer(name, "Concat")
    parts = [graph.scalar(i) for i in concat.input] if concat is not None else []
    last = [-1, -1, *(-1 if part is None else int(part) for part in parts)]
    return last[-2], last[-1]


def _fuse_quick_gelu(graph: Graph, sigmoid: onnx.NodeProto) -> None:
    """Replace x Sigmoid(1.702 x) by QuickGelu."""
    steep = graph.producer(sigmoid.input[0], "Mul")
    product = graph.only_consumer(sigmoid.output[0], "Mul")
    if steep is None or product is None:
        return
    x = graph.other_input(product, sigmoid.output[0])
    factor = graph.scalar(graph.other_input(steep, x))
    if x in steep.input and factor is not None and math.isclose(factor, _QUICK_GELU, rel_tol=1e-6):
        fused = helper.make_node(
            "QuickGelu", [x], [product.output[0]], name=f"{product.name}/QuickGelu", domain=CONTRIB, alpha=factor
        )
        graph.replace([product], [fused])


def _fuse_gelu(graph: Graph, erf: onnx.NodeProto) -> None:
    """Replace 0.5 x (1 + Erf(x / sqrt 2)) by Gelu."""
    x, factor = _unscaled(graph, erf.input[0])
    plus_one = graph.only_consumer(erf.output[0], "Add")
    if plus_one is None or graph.scalar(graph.other_input(plus_one, erf.output[0])) != 1.0:
        return
    doubled = graph.only_consumer(plus_one.output[0], "Mul")
    if doubled is None or graph.other_input(doubled, plus_one.output[0]) != x:
        return
    halved = graph.only_consumer(doubled.output[0], "Mul")
    is_half = halved is not None and graph.scalar(graph.other_input(halved, doubled.output[0])) == 0.5
    if halved is not None and is_half and math.isclose(factor, 0.5**0.5, rel_tol=1e-6):
        fused = helper.make_node("Gelu", [x], [halved.output[0]], name=f"{halved.name}/Gelu", domain=CONTRIB)
        graph.replace([halved], [fused])
