"""Read ONNX files with large weights as views of the file, and write them one weight in memory at a time.

onnx's own reader and writer hold all weights twice, 2.5 GB for a ViT-L in float32. Here the lengths, which protobuf
writes first, follow from the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from aesedge.errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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


class LazyWeight(NamedTuple):
    """A tensor of a graph that is computed when it is written."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    values: Callable[[], Array]
    """Returns the values, of this dtype and shape."""

    @property
    def n_bytes(self) -> int:
        """Size of its values."""
        return self.dtype.itemsize * math.prod(self.shape)

    def header(self) -> bytes:
        """Return the bytes of its field in the graph that come before its values."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        tensor = TensorProto(name=self.name, data_type=kind, dims=self.shape)
        inner = tensor.SerializeToString() + _field_start(_RAW_DATA, self.n_bytes)
        return _field_start(_INITIALIZER, len(inner) + self.n_bytes) + inner


def write_model(path: Path, model: onnx.ModelProto, weights: Mapping[str, Array] | Sequence[LazyWeight]) -> None:
    """Write a model and its weights.

    Args:
        path: the file.
        model: everything but the weights.
        weights: arrays by name, or tensors that are computed one at a time.
    """
    if isinstance(weights, Mapping):
        weights = [LazyWeight(name, a.dtype, a.shape, partial(np.asarray, a)) for name, a in weights.items()]
    headers = [weight.header() for weight in weights]
    graph = model.graph.SerializeToString()
    n_bytes = len(graph) + sum(len(h) + w.n_bytes for h, w in zip(headers, weights, strict=True))
    shell = ModelProto()
    shell.CopyFrom(model)
    shell.ClearField("graph")
    with path.open("wb") as file:
        file.write(shell.SerializeToString() + _field_start(_GRAPH, n_bytes) + graph)
        for header, weight in zip(headers, weights, strict=True):
            file.write(header)
            file.write(np.ascontiguousarray(weight.values()).tobytes())


def _field_start(number: int, n_bytes: int) -> bytes:
    """Return the protobuf bytes before a field's content: its number, its wire type, its length."""
    return _as_varint(number << 3 | _BYTES) + _as_varint(n_bytes)


def _as_varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + _as_varint(value >> 7)


def reference_to(path: Path, name: str, values: Array) -> onnx.TensorProto:
    """Return a tensor that points into the file if the values are a view of it, and else holds them."""
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
