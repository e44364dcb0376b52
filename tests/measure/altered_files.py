"""Alter manifests, GGUF and ONNX files and cache folders at random, for fuzz_bundles.py."""

from __future__ import annotations

import json
import math
import os
import struct
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import random
    from pathlib import Path

NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**32 - 1, 2**63, 2**64, 10**30, 1e308, -1e308, 1e-308, 0.5, -0.0]
TEXTS: list[Any] = ["", "\x1b[2J\x1b]0;x\x07", "a\nb\r", "\ud800", "x" * 100_000, "../../../etc/passwd", "/dev/zero"]
TEXTS += ["\u202eevil", "con", "a\x00b", "🙂" * 50, "%s%n", "{question}", "</s>"]
JUNK: list[Any] = [None, True, False, [], {}, [[[]]], {"a": {"b": 1}}, *NUMBERS, *TEXTS]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


def alter_json(rng: random.Random, data: Any) -> bytes:
    """Return JSON with one place altered."""
    *above, last = rng.choice(places(data)[1:])
    inner = data
    for key in above:
        inner = inner[key]
    way = rng.randrange(8)
    if way == 0:
        del inner[last]
    elif way == 1 and isinstance(inner, dict):
        inner[rng.choice(["x", *map(str, TEXTS)])] = rng.choice(JUNK)
    elif way == 2 and isinstance(inner, list):
        inner += [inner[last]] * rng.choice([1, 5, 5000])
    elif way == 3:
        inner[last] = "@deep@"
    else:
        inner[last] = rng.choice(JUNK)
    text = json.dumps(data)
    deep = rng.choice(["[" * 60_000 + "]" * 60_000, '{"a":' * 60_000 + "1" + "}" * 60_000, "[" * 50, "NaN", "1e999"])
    text = text.replace('"@deep@"', deep)
    if way == 4 and rng.random() < 0.3:
        text = text.replace("{", '{"name": "twice", "name": 7,', 1)
    return text.encode("utf-8", "surrogatepass")


class Gguf:
    """A GGUF file taken apart, so that any part can be written differently."""

    FORMATS: ClassVar = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 8
        self.version, (self.n_tensors, self.n_keys) = 3, (self.number("Q"), self.number("Q"))
        self.keys = [[self.text(), *self.value()] for _ in range(self.n_keys)]
        self.tensors = []
        for _ in range(self.n_tensors):
            name = self.text()
            dims = [self.number("Q") for _ in range(self.number("I"))]
            self.tensors.append([name, dims, self.number("I"), self.number("Q")])
        self.rest = bytearray(data[-(-self.at // 32) * 32 :])
        self.alignment, self.cut = 32, None

    def number(self, letter: str) -> Any:
        (found,) = struct.unpack_from(f"<{letter}", self.data, self.at)
        self.at += struct.calcsize(f"<{letter}")
        return found

    def text(self) -> bytes:
        n = self.number("Q")
        self.at += n
        return self.data[self.at - n : self.at]

    def value(self) -> list[Any]:
        kind = self.number("I")
        if kind != 9:
            return [kind, None, self.text() if kind == 8 else self.number(self.FORMATS[kind])]
        inner, n = self.number("I"), self.number("Q")
        return [kind, inner, [self.text() if inner == 8 else self.number(self.FORMATS[inner]) for _ in range(n)]]

    def written(self) -> bytes:
        out = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, self.n_tensors % 2**64, self.n_keys % 2**64))
        for key, kind, inner, value in self.keys:
            out += struct.pack("<Q", len(key)) + key + struct.pack("<I", kind)
            if kind == 9:
                out += struct.pack("<IQ", inner, len(value))
            for one in value if kind == 9 else [value]:
                out += self.packed(inner if kind == 9 else kind, one)
        for name, dims, kind, offset in self.tensors:
            out += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dims))
            out += b"".join(struct.pack("<Q", n % 2**64) for n in dims)
            out += struct.pack("<IQ", kind % 2**32, offset % 2**64)
        out += bytes(-len(out) % self.alignment) + self.rest
        return bytes(out[: self.cut])

    def packed(self, kind: int, value: Any) -> bytes:
        if kind == 8:
            raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
            return struct.pack("<Q", len(raw)) + raw
        letter = self.FORMATS.get(kind, "I")
        value = 0 if isinstance(value, (bytes, list)) else value
        is_whole = math.isfinite(value) and abs(value) < 1e150
        if letter in "fd":
            try:
                return struct.pack(f"<{letter}", value)
            except OverflowError:
                return struct.pack(f"<{letter}", float("inf"))
        if letter == "?":
            return bytes([int(bool(value))])
        n = struct.calcsize(letter)
        return (int(value) if is_whole else 2**63).to_bytes(64, "little", signed=True)[:n]


def alter_gguf(rng: random.Random, data: bytes) -> bytes:  # noqa: C901, PLR0912, PLR0915 (one branch per kind)
    """Return a GGUF file with one to three parts altered."""
    file = Gguf(data)
    numbers = [*NUMBERS[:9], 2, 3, 5, 7, 64, 10**6, float("nan"), float("inf"), 1e-45, -1.0]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        key, tensor = rng.choice(file.keys), rng.choice(file.tensors)
        way = rng.randrange(20)
        if way == 0:
            file.n_keys += rng.choice([-1, 1, 2**40])
        elif way == 1:
            file.n_tensors += rng.choice([-1, 1, 2**40])
        elif way == 2:
            file.version = rng.choice([0, 1, 2, 4, 0x03000000, 2**32 - 1])
        elif way == 3:
            file.keys.remove(key)
            file.n_keys -= 1
        elif way == 4:
            file.keys.append(list(key))
            file.n_keys += 1
        elif way == 5:
            key[1] = rng.choice([0, 4, 5, 6, 7, 8, 10, 12, 13, 2**31])
            if key[2] is not None and rng.random() < 0.7:
                key[1], key[2] = 9, rng.choice([0, 4, 5, 6, 8, 9, 10, 99])
        elif way in {6, 7, 8, 9} and key[1] != 9:
            texts = [b"", b"\xff\xfe", b"gpt2", b"bert", b"llama", b"qwen2", b"x" * 9999, b"{% for %}", b"\x1b[31m"]
            key[3] = rng.choice(texts) if key[1] == 8 else rng.choice(numbers)
        elif way in {6, 7, 8, 9, 10} and key[1] == 9 and key[3]:
            i = rng.randrange(len(key[3]))
            junk = key[3][i - 1] if rng.random() < 0.4 else rng.choice([b"", b"\xff", b"a" * 9999, *numbers])
            key[3] = rng.choice([key[3][:i], key[3] + [junk], [], [*key[3][:i], junk, *key[3][i + 1 :]], key[3] * 2])
        elif way == 11:
            extra = rng.choice([b"expert_count", b"attention.causal", b"rope.scaling.type", b"pooling_type"])
            extra = rng.choice([extra, b"attention.sliding_window", b"attention.key_length", b"rope.scaling.factor"])
            kind = rng.choice([4, 5, 6, 7, 8])
            file.keys.append([b"llama." + extra, kind, None, rng.choice([b"yarn", b"x"] if kind == 8 else numbers)])
            file.n_keys += 1
        elif way == 12:
            tensor[0] = rng.choice([rng.choice(file.tensors)[0], b"", b"blk.99999.x", b"x" * 64, b"a\x1b[0m", b"\xff"])
        elif way == 13:
            tensor[1] = rng.choice([[], tensor[1][::-1], [*tensor[1], 2], [0, 1], [2**62, 4], [1] * 5, tensor[1][:1]])
        elif way == 14:
            tensor[2] = rng.choice([0, 1, 2, 4, 8, 9, 12, 15, 24, 26, 28, 30, 31, 36, 39, 40, 41, 99, 2**31])
        elif way == 15:
            tensor[3] = rng.choice([0, 1, 32, 2**40, 2**64 - 32, rng.choice(file.tensors)[3], tensor[3] + 32])
        elif way == 16:
            file.cut = rng.randrange(len(data))
        elif way == 17:
            at = rng.randrange(len(file.rest) - 4096)
            file.rest[at : at + 4096] = rng.choice([b"\xff", b"\x00", b"\x7f\x80", b"\x00\x00\x80\x7f"]) * 1024
        elif way == 18:
            file.rest[:] = struct.pack("<f", rng.choice([float("nan"), float("inf"), 3e38])) * (len(file.rest) // 4)
        else:
            written = bytearray(file.written())
            for _ in range(rng.choice([1, 4, 64])):
                written[rng.randrange(len(written) if rng.random() < 0.2 else 20_000)] = rng.randrange(256)
            return bytes(written)
    return file.written()


def alter_onnx(rng: random.Random, data: bytes) -> bytes:  # noqa: C901, PLR0912, PLR0915 (one branch per kind)
    """Return an ONNX file with one part altered."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(data)
    graph = model.graph
    node, weight = rng.choice(graph.node), rng.choice(graph.initializer)
    shape = rng.choice([graph.input[0], graph.output[0]]).type.tensor_type
    way = rng.randrange(16)
    if way == 0:
        return data[: rng.randrange(len(data))]
    if way == 1:
        altered = bytearray(data)
        for _ in range(rng.choice([1, 4, 64])):
            altered[rng.choice([rng.randrange(len(data)), -rng.randrange(1, 600)])] = rng.randrange(256)
        return bytes(altered)
    if way == 2:
        model.opset_import[0].version = rng.choice([0, 1, 9, 99, 2**40])
    elif way == 3:
        node.domain = rng.choice(["com.microsoft", "evil", "ai.onnx.ml"])
    elif way == 4:
        node.op_type = rng.choice(["Relu", "If", "Loop", "Nothing", "Tanh", "Identity", "NonZero", "Gather"])
    elif way == 5:
        name = rng.choice(["pixel_values", "image_embeddings", "other", "", "\x1b[31m"])
        rng.choice([graph.input[0], graph.output[0]]).name = name
    elif way == 6:
        rng.choice(shape.shape.dim).dim_value = rng.choice([0, -1, 1, 7, 2**31, 2**40])
    elif way == 7:
        rng.choice(shape.shape.dim).dim_param = rng.choice(["n", "x" * 9999, "\x1b[2J"])
    elif way == 8:
        shape.elem_type = rng.choice([0, 2, 7, 8, 10, 11, 99])
    elif way == 9:
        weight.dims[0] = rng.choice([0, -1, 1, 2**31, 2**40])
    elif way == 10:
        values = numpy_helper.to_array(weight).copy()
        values.reshape(-1)[:] = rng.choice([np.nan, np.inf, 1e38, 0, -1]) if values.dtype == np.float32 else 2**40
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    elif way == 11:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        place = rng.choice(["../../../../etc/passwd", "/dev/zero", "llm-f32.gguf", "manifest.json", "", "x" * 9999])
        weight.external_data.add(key="location", value=place)
        weight.external_data.add(key="length", value=rng.choice(["0", "-1", "99999999999", "x"]))
    elif way == 12:
        graph.node.remove(node)
    elif way == 13:
        node.input[0] = rng.choice([*(n.output[0] for n in graph.node), "nothing", "pixel_values"])
    elif way == 14:
        extra = graph.input.add()
        extra.CopyFrom(graph.input[0])
        extra.name = rng.choice(["n_image_tokens", "more"])
    else:
        for key, value in (
            ("n_image_tokens", rng.choice(["4", "0", "99999999999", "²", "-1"])),
            ("reduction", "x\x1b"),
        ):
            fact = model.metadata_props.add()
            fact.key, fact.value = key, value
    return model.SerializeToString()


def alter_cache(rng: random.Random, folder: Path) -> None:  # noqa: C901 (one branch per kind)
    """Alter one to three files of a cache folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in rng.sample(files, min(len(files), rng.choice([1, 1, 2, 3]))):
        data = path.read_bytes()
        way = rng.randrange(10)
        path.unlink()
        if way == 0:
            os.mkfifo(path)
        elif way == 1:
            path.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/etc/passwd", path.name, "missing", ".."]))
        elif way == 2:
            path.mkdir()
        elif way == 3:
            path.write_bytes(data[: rng.randrange(len(data) + 1)])
        elif way == 4:
            path.write_bytes(b"[" * 100_000 + b"]" * 100_000)
        elif way == 5:
            path.write_bytes(data)
            path.chmod(0)
        elif way in {6, 7, 8} and path.suffix == ".json":
            path.write_bytes(alter_json(rng, json.loads(data)))
        elif data:
            altered = bytearray(data)
            for _ in range(rng.choice([1, 8])):
                altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
            path.write_bytes(altered)
