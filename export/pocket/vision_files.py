"""Write the tower as ONNX, in float32 and in 8 bits; every image token is a copy of the row with the judgement."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from aesedge_export.vision.vision_calibration import write_int8_convolutions
from onnx import TensorProto, helper, numpy_helper

from aesedge.image import preprocess
from aesedge.vision.tower import INPUT, N_INPUT, OUTPUT

from .faults import FAULTS, STRONG, fit, spoil
from .tower import IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from aesedge.image.image_spec import ImageSpec

    from .tower import Pooled, Tower

N_IMAGE_TOKENS = 144
METHOD = "copies"
"""What the manifest says of fewer image tokens: each is the same."""
_ROW = "row"
_IN_NETWORK = "/pooled/network/"
"""How the names of the network's nodes begin; the heads stay in float32."""
_SENSITIVE = ("/stem/", "/blocks.0/", "/blocks.1/")
"""What stays in float32, too: in 8 bits it moves scores more than everything behind it, for few milliseconds less."""


def write_fp32(tower: Tower, path: Path) -> None:
    """Write the graph: pixels and a number in, so many equal rows out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that are the same for every picture
        torch.onnx.export(
            tower, (torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE),), path, input_names=[INPUT], output_names=[_ROW],
            dynamic_axes={INPUT: {0: "batch"}, _ROW: {0: "batch"}}, opset_version=17, dynamo=False,
        )  # fmt: skip
    model = fold_padding(onnx.load(path))
    graph, width = model.graph, tower.code.second.out_features
    constants = {"first": [0], "one": [1], "width": [width]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(v, np.int64), f"copies.{k}") for k, v in constants.items()
    )
    graph.node.extend([
        helper.make_node("Unsqueeze", [_ROW, "copies.one"], ["copies.row"]),
        helper.make_node("Shape", [_ROW], ["copies.shape"]),
        helper.make_node("Gather", ["copies.shape", "copies.first"], ["copies.batch"]),
        helper.make_node("Concat", ["copies.batch", N_INPUT, "copies.width"], ["copies.wanted"], axis=0),
        helper.make_node("Expand", ["copies.row", "copies.wanted"], [OUTPUT]),
    ])  # fmt: skip
    graph.input.append(helper.make_tensor_value_info(N_INPUT, TensorProto.INT64, [1]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", N_INPUT, width]))
    _finish(model, path)


def fold_padding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let convolutions pad by themselves what a node before each pads; padding and 8 bits cost a fifth of the time."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        before = made_by.get(node.input[0]) if node.op_type == "Conv" else None
        if before is not None and before.op_type == "Pad":
            attributes = {a.name: a for a in node.attribute}
            missing = attributes["kernel_shape"].ints[0] - attributes["strides"].ints[0]
            attributes["pads"].ints[:] = [missing // 2] * 2 + [missing - missing // 2] * 2
            node.input[0] = before.input[0]
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    return model


def write_pooled(pooled: Pooled, path: Path) -> None:
    """Write what the network sees of pictures, without heads: to make the features that the heads learn from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            pooled, (torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE),), path, input_names=[INPUT],
            output_names=["outputs", "inner"], opset_version=17, dynamo=False,
        )  # fmt: skip
    onnx.save(fold_padding(onnx.load(path)), path)


def _finish(model: onnx.ModelProto, path: Path) -> None:
    helper.set_model_props(model, {"n_image_tokens": str(N_IMAGE_TOKENS), "reduction": METHOD})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_int8(fp32: Path, path: Path, photos: Sequence[Image.Image], image: ImageSpec) -> None:
    """Write the graph with the network's convolutions in 8 bits.

    Args:
        fp32: the graph in float32.
        path: the file to write.
        photos: ranges are measured on them, clean and with every fault.
        image: their preprocessing.
    """
    nodes = onnx.load(fp32).graph.node
    inside = [
        n.name for n in nodes
        if n.name.startswith(_IN_NETWORK) and n.op_type in {"Conv", "Add", "Clip"}
        and not any(part in n.name for part in _SENSITIVE)
    ]  # fmt: skip
    inputs = ({INPUT: preprocess(p, image), N_INPUT: np.array([1], np.int64)} for p in calibration(photos))
    write_int8_convolutions(fp32, path, inside, inputs)
    _finish(onnx.load(path), path)


def calibration(photos: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """Yield every photograph clean and with each strong fault."""
    for number, photo in enumerate(photos):
        clean = fit(photo)
        yield clean
        for k, fault in enumerate(FAULTS):
            yield spoil(clean, {fault: STRONG}, np.random.default_rng((number, k)))
