"""ONNX files whose large weights stay on disk: read as views of the file, written one at a time; knows no operators.

onnx's own reader and writer hold all weights twice, 2.5 GB for a ViT-L in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from aesedge.errors import ModelLoadError

from .onnx_writing import field_start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Array = npt.NDArray[Any]

_LARGE = 4096
"""Bytes from which a weight stays in the file."""
_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


def read_model(path: Path) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Read a model.

    Returns:
        The model without weights, and the weights by name; large ones are views of the file.

    Raises:
        ModelLoadError: it is no ONNX model.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
        return _read(data)
    except (DecodeError, IndexError, ValueError) as error:
        raise ModelLoadError(f"{path}: not an ONNX model: {error}; export or install the bundle again") from None


def _read(data: np.memmap[Any, Any]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    shell, weights = b"", {}
    graph = b""
    for number, whole, start, end in _fields(data, 0, len(data)):
        if number != _GRAPH:
            shell += data[whole:end].tobytes()
            continue
        for inner, inner_whole, inner_start, inner_end in _fields(data, start, end):
            if inner == _INITIALIZER:
                name, values = _tensor(data, inner_start, inner_end)
                weights[name] = values
            else:
                graph += data[inner_whole:inner_end].tobytes()
    model = ModelProto.FromString(shell)
    model.graph.MergeFromString(graph)
    return model, weights


def _tensor(data: np.memmap[Any, Any], start: int, end: int) -> tuple[str, Array]:
    """Return a tensor's name and values."""
    rest, raw = b"", None
    for number, whole, inner_start, inner_end in _fields(data, start, end):
        if number == _RAW_DATA and inner_end - inner_start >= _LARGE:
            raw = data[inner_start:inner_end]
        else:
            rest += data[whole:inner_end].tobytes()
    tensor = TensorProto.FromString(rest)
    if raw is None:
        return tensor.name, np.array(numpy_helper.to_array(tensor))
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return tensor.name, raw.view(dtype).reshape(tuple(tensor.dims))


def _fields(data: np.memmap[Any, Any], start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field of a message: its number, where it starts, where its content starts, where it ends."""
    at = start
    while at < end:
        key, content = _varint(data, at)
        kind = key & 7
        if kind == _BYTES:
            length, content = _varint(data, content)
            after = content + length
        elif kind == _VARINT:
            _, after = _varint(data, content)
        elif kind in {_FIXED32, _FIXED64}:
            after = content + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"byte {at} starts no field")
        if after > end:
            raise ValueError(f"the field at byte {at} ends behind its message")
        yield key >> 3, at, content, after
        at = after


def _varint(data: np.memmap[Any, Any], at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = int(data[at])
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def write_model(path: Path, model: onnx.ModelProto, weights: Mapping[str, Array]) -> None:
    """Write a model and its weights.

    Args:
        path: the file.
        model: everything but the weights; changed.
        weights: by name; one at a time is in memory.
    """
    heads = []
    for name, values in weights.items():
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(values.dtype), dims=values.shape)
        inner = tensor.SerializeToString() + field_start(TensorProto, "raw_data", values.nbytes)
        heads.append(field_start(GraphProto, "initializer", len(inner) + values.nbytes) + inner)
    graph = model.graph.SerializeToString()
    n_bytes = len(graph) + sum(map(len, heads)) + sum(values.nbytes for values in weights.values())
    model.ClearField("graph")
    with path.open("wb") as file:
        file.write(model.SerializeToString() + field_start(ModelProto, "graph", n_bytes) + graph)
        for head, values in zip(heads, weights.values(), strict=True):
            file.write(head)
            file.write(np.ascontiguousarray(values).tobytes())


def reference_to(path: Path, name: str, values: Array) -> onnx.TensorProto:
    """Return a tensor that points into a file where the values are a view of it, and holds them otherwise."""
    tensor = numpy_helper.from_array(np.zeros(0, values.dtype), name)
    source = values
    while isinstance(source.base, np.memmap):
        source = source.base
    if not isinstance(source, np.memmap):
        return numpy_helper.from_array(values, name)
    offset = values.__array_interface__["data"][0] - source.__array_interface__["data"][0]
    del tensor.dims[:]
    tensor.dims.extend(values.shape)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": path.name, "offset": offset, "length": values.nbytes}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
