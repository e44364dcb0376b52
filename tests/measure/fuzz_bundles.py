"""Alter bundles and cache folders at random, and see what the commands make of them; run by hand.

    python tests/measure/fuzz_bundles.py manifest gguf onnx cache --cases 1000 --seed 1

Each case is a tiny bundle with one to three alterations and hashes that are right again, as its maker would have it.
The commands run in a child process with limits of memory and time. Printed is a table: refused in one line, fine,
several lines, traceback, died, hung, and for ``cache`` whether an answer changed. Every case that is neither fine nor
refused in one line is named with its seed; ``--only N`` runs it alone and shows what it printed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

_LIMIT_BYTES, _LIMIT_S = 12 << 30, 90.0
GOOD = ("fine", "refused in one line")
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


def rehash(folder: Path, name: str) -> None:
    """Let the manifest say of a file what is true of it now."""
    manifest, data = json.loads((folder / "manifest.json").read_bytes()), (folder / name).read_bytes()
    for file in manifest["files"]:
        if file["path"] == name:
            file["bytes"], file["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def made(kind: str, seed: int, base: Path, folder: Path) -> list[list[str]]:
    """Make a case in an empty folder and return the commands to run on it."""
    rng, bundle, photo = random.Random(f"{kind} {seed}"), folder / "home" / "b", str(base / "photo.png")
    shutil.copytree(base / "home", folder / "home")
    score = ["score", "--bundle", str(bundle), "--threads", "1", "--device", "cpu", photo]
    if kind == "manifest":
        path = bundle / "manifest.json"
        path.write_bytes(alter_json(rng, json.loads(path.read_bytes())))
        if rng.random() < 0.1:
            victim = bundle / rng.choice(["manifest.json", "llm-f32.gguf", "vision-fp32.onnx", "card.md"])
            victim.unlink()
            rng.choice([os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: None])(victim)
        return [["info", str(bundle)], ["info", str(bundle), "--card"], ["bundles"], ["verify", str(bundle)], score]
    if kind == "cache":
        shutil.copytree(base / "cache", folder / "cache")
        alter_cache(rng, folder / "cache")
        return [[*score, "--json"], ["cache"], ["info", str(bundle)], [*score, "--json"]]
    name, alter = ("llm-f32.gguf", alter_gguf) if kind == "gguf" else ("vision-fp32.onnx", alter_onnx)
    (bundle / name).write_bytes(alter(rng, (bundle / name).read_bytes()))
    rehash(bundle, name)
    run = ["run", "--bundle", str(bundle), "--max-tokens", "3", "--threads", "1", "--device", "cpu", photo]
    return [["info", str(bundle)], score, run]


def worker() -> None:
    """Run commands that come as JSON lines, each in this process, and say what came of each."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from aesedge.cli import main

    for line in sys.stdin:
        order = json.loads(line)
        os.environ.update(order["environment"])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: object = main(order["command"])
            except BaseException:  # noqa: BLE001 (that is what is looked for)
                code = traceback.format_exc()
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


class Worker:
    """A child that runs commands, started again when it dies."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], environment: dict[str, str]) -> tuple[str, str]:
        """Return what came of a command, in a word, and what it printed."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        process = self.process
        process.stdin.write(json.dumps({"command": command, "environment": environment}).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _LIMIT_S)
        line = process.stdout.readline() if ready else b""
        if not line:
            process.kill()
            self.process = None
            return ("died", f"exit {process.wait()}") if ready else ("hung", "")
        answer = json.loads(line)
        text = f"{answer['out']}{answer['err']}"
        if isinstance(answer["code"], str):
            return "traceback", answer["code"]
        if set(text) & set("\x1b\x07\x00\r\u202e"):
            return "steers the terminal", repr(text)
        # A single photo of one that failed is counted in a line of its own.
        n_lines = len([line for line in answer["err"].splitlines() if not line.startswith("0 of 1 photos")])
        if answer["code"] == 0:
            return "fine", text
        return ("refused in one line" if n_lines == 1 else "several lines"), text


def prepare(base: Path) -> None:
    """Make what all cases begin from: a bundle at home, a photo, and a cache folder in use."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import tiny
    from PIL import Image

    bundle = tiny.write_bundle(base / "home" / "b")
    (bundle / "card.md").write_text("# A card\n")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"].append({"path": "card.md", "role": "card", "type": "md", "bytes": 0, "sha256": "0" * 64})
    figures = {"mean_kl": 0.1, "n_top1_equal": 3, "n_positions": 4, "max_score_drift": 0.1, "verdict": "close"}
    manifest["fidelity"] = {
        "checked": True,
        "reference": "PyTorch",
        "photos": ["a.jpg"],
        "stages": [{"stage": "pixels", "figures": {"max_abs_diff": 0.0}, "limits": {"max_abs_diff": 1e-5}}],
        "types": {"F32": {**figures, "without_importance": figures, "stored_otherwise": {"a": "Q8_0"}}},
        "vision": {"fp32": {"min_cosine": 0.99, "limits": {"min_cosine": 0.9}, "layers_in_fp32": ["a"]}},
        "verdicts": {"close": {"mean_kl": 0.035, "max_score_drift": 0.3}},
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    rehash(bundle, "card.md")
    Image.effect_noise((64, 48), 80).convert("RGB").save(base / "photo.png")


def main() -> None:
    """Run cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["manifest", "gguf", "onnx", "cache"])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="Number of the first case.")
    parser.add_argument("--only", type=int, help="One case, with all that it prints.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker()
        return
    with tempfile.TemporaryDirectory(prefix="aesedge-fuzz-") as top:
        base = Path(top) / "base"
        prepare(base)
        child = Worker()
        places_ = {"AESEDGE_HOME": str(base / "home"), "AESEDGE_CACHE": str(base / "cache")}
        score = ["score", "--bundle", str(base / "home" / "b"), "--threads", "1", "--device", "cpu", "--json"]
        word, before = child.run([*score, str(base / "photo.png")], places_)
        assert word == "fine", before
        seeds = [options.only] if options.only is not None else range(options.seed, options.seed + options.cases)
        for kind in options.kinds:
            table: Counter[str] = Counter()
            try:
                for seed in seeds:
                    run_case(kind, seed, Path(top), child, before, table, show_all=options.only is not None)
            finally:  # Ctrl-C too
                print(kind, dict(table), flush=True)


def run_case(
    kind: str, seed: int, top: Path, child: Worker, before: str, table: Counter[str], *, show_all: bool
) -> None:
    """Make a case, run its commands, and count what came of each."""
    folder = top / "case"
    commands = made(kind, seed, top / "base", folder)
    environment = {"AESEDGE_HOME": str(folder / "home"), "AESEDGE_CACHE": str(folder / "cache")}
    for command in commands:
        word, text = child.run(command, environment)
        if kind == "cache" and "--json" in command and word == "fine":
            scores = [json.loads(printed.splitlines()[0])["score"] for printed in (before, text)]
            word = "fine" if scores[0] == scores[1] else "another answer"
        table[word] += 1
        if show_all or word not in GOOD:
            print(f"{kind} {seed} {command[0]}: {word}: {text[-1500:].strip()}", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
