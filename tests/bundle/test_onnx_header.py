"""ONNX files whose weights lie outside are refused by their headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
import tiny

from aesedge.bundle.onnx_header import check_vision_file
from aesedge.errors import BundleFormatError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def external(place: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=place)

    return change


@pytest.mark.parametrize("place", ["../../secret.bin", "/etc/passwd", "weights.bin", ""])
def test_weights_outside_a_graph_s_file_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(BundleFormatError, match="another file"):
        check_vision_file(tiny.write_altered_tower(tmp_path / "vision.onnx", external(place)))


def test_weights_outside_are_found_in_a_graph_inside_a_node(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        inner = onnx.GraphProto(name="inner")
        inner.initializer.add().CopyFrom(model.graph.initializer[0])
        model.graph.node[0].attribute.add(name="body", g=inner, type=onnx.AttributeProto.GRAPH)
        weight = model.graph.node[0].attribute[-1].g.initializer[0]
        weight.data_location = onnx.TensorProto.EXTERNAL

    with pytest.raises(BundleFormatError, match="another file"):
        check_vision_file(tiny.write_altered_tower(tmp_path / "vision.onnx", change))
