"""Run a vision graph on photos with taps on its inner tensors, to calibrate lower precisions.

The only module of export that imports onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import helper

from aesedge.errors import UsageError
from aesedge.system.machine import default_n_threads
from aesedge.vision.tower import INPUT, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .onnx_graph import Graph

    FloatArray = npt.NDArray[np.float32]

_N_ROWS = 64  # rows of all photos together that smoothing is chosen by


def site_taps(graph: Graph, name: str) -> tuple[str, str, str]:
    """Add outputs for each channel's least and largest value, and for some rows."""
    return (
        _tap(graph, name, "ReduceMin", ["n"], axes=[0, 1], keepdims=0),
        _tap(graph, name, "ReduceMax", ["n"], axes=[0, 1], keepdims=0),
        _tap(graph, name, "Slice", ["batch", "rows", "n"], inputs=("row_first", "row_end", "row_axis", "row_step")),
    )


def largest_tap(graph: Graph, name: str) -> str:
    """Add an output for a tensor's largest absolute value."""
    graph.insert_behind(name, helper.make_node("Abs", [name], [f"{name}.abs"]))
    return _tap(graph, f"{name}.abs", "ReduceMax", [], keepdims=0)


def _tap(
    graph: Graph, name: str, kind: str, shape: Sequence[str], *, inputs: Sequence[str] = (), **attributes: Any
) -> str:
    output = f"{name}.{kind}"
    graph.insert_behind(name, helper.make_node(kind, [name, *inputs], [output], **attributes))
    graph.add_output(output, shape)
    return output


def run_with_taps(
    graph: Graph, fp32: Path, taps: Sequence[str], pixels: Sequence[FloatArray]
) -> tuple[list[dict[str, Any]], list[FloatArray]]:
    """Run a graph on photos; return what the taps gave and the image embeddings, of each photo.

    Raises:
        UsageError: there is no photo.
    """
    if not pixels:
        raise UsageError("there are no photos to calibrate the vision graph on; give one at least")
    n_rows = int(graph.dims(OUTPUT)[1])
    step = max(1, n_rows * len(pixels) // _N_ROWS)
    slices = {"row_first": min(step, n_rows) // 2, "row_end": n_rows, "row_axis": 1, "row_step": step}
    for name, number in slices.items():
        graph.add_weight(name, np.array([number], np.int64))
    path = fp32.with_name(f".{fp32.name}.calibration")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = default_n_threads(fp32.stat().st_size)
    options.log_severity_level = 4
    # By default all taps run at the end, and keep every tensor alive until then: 4.4 GB for a ViT-L instead of 1.6.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    try:
        graph.save_beside(path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    finally:
        path.unlink(missing_ok=True)
    values, rows = [], []
    for of_one in pixels:
        embeddings, *found = session.run([OUTPUT, *taps], {INPUT: of_one})
        rows.append(embeddings[0])
        values.append(dict(zip(taps, found, strict=True)))
    return values, rows


def open_session(path: Path, n_threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def write_int8_convolutions(
    fp32: Path, path: Path, nodes: Sequence[str], inputs: Iterator[dict[str, npt.NDArray[Any]]]
) -> None:
    """Write a graph of a convolutional network with some of its nodes in 8 bits.

    Args:
        fp32: the graph.
        path: the file to write.
        nodes: names of those that are quantized; all others stay in float32.
        inputs: of the graph, by which the range of every tensor is measured.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            return next(inputs, None)

    quantize_static(
        fp32, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, nodes_to_quantize=list(nodes),
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        reduce_range=True,  # 7 bits of weight: processors without VNNI add two products in 16 bits
    )  # fmt: skip
