"""The matrix products of the vision tower as ONNX Runtime computes them: fp32, and 8 bits as our int8 graphs have them.

8 bits: DynamicQuantizeLinear and MatMulIntegerToFloat, unsigned rows and signed 7-bit weights with a scale for each
output. Each product is one small graph; weights lie in as many copies as exceed caches. Checked against numpy first.

    python kernels_bench/vision_products.py [--check] [--shapes NAME|FILE] [--only NAME] [--types fp32,int8]
        [--ceilings read=GB/s,fma_f32=GFLOP/s,dot_int8=GFLOP/s] [--threads N] [--repetitions N] [--seconds S]

Needs onnx and onnxruntime. The report is that of the native programs: a table, then one line of JSON.
"""
# ruff: noqa: INP001, T201 - a script of its own, which reports on the terminal

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported, which is below

FloatArray = npt.NDArray[np.float32]
COLD_BYTES = 256 << 20
WEIGHT_MAX = 63  # export/vision/vision_int8.py says why 7 bits
TOLERANCE = {"fp32": 1e-6, "int8": 1e-6}  # sum of squared errors relative to the sum of squares
CEILING = {"fp32": "fma_f32", "int8": "dot_int8"}


class Shape(NamedTuple):
    """A line `vision` of a file of shapes."""

    name: str
    n_rows: int
    n_columns: int
    n_times: int
    n_tokens: int


def read_shapes(name: str) -> list[Shape]:
    """Return the lines `vision` of a file; a bare name stands for one beside this script."""
    path = Path(name) if name.endswith(".txt") or "/" in name else Path(__file__).parent / "shapes" / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        wrong_call(f"no file of shapes {path}: {error.strerror}")
    found = []
    for n, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if words[:1] != ["vision"]:
            continue
        numbers = [word for word in words[2:] if word.isdigit() and 0 < int(word) <= 1 << 24]
        if len(words) != 6 or len(numbers) != 4:
            wrong_call(f"{path}:{n}: a line is 'vision NAME' and 4 numbers")
        found.append(Shape(words[1], *map(int, numbers)))
    if not found:
        wrong_call(f"{path}: no line 'vision'")
    return found


def wrong_call(message: str) -> Any:
    """Say what is wrong and end with the code that stands for it."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def make_session(kind: str, weights: FloatArray) -> Any:
    """Return a session that multiplies rows [n, n_columns] by weights [n_columns, n_rows]."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weights.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, weights.shape[1]])
    if kind == "fp32":
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        constants = [numpy_helper.from_array(weights, "w")]
    else:
        values, scale = quantized(weights)
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"]),
            helper.make_node(
                "MatMulIntegerToFloat", ["q", "w", "q_scale", "w_scale", "q_zero"], ["y"], domain="com.microsoft"
            ),
        ]
        constants = [numpy_helper.from_array(values, "w"), numpy_helper.from_array(scale, "w_scale")]
    graph = helper.make_graph(nodes, "product", [x], [y], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False  # threads of another session would go on spinning for a while
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def quantized(weights: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Return signed 7-bit weights and the scale of each column."""
    scale = (np.abs(weights).max(axis=0) / WEIGHT_MAX).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def expected(kind: str, x: FloatArray, weights: FloatArray) -> npt.NDArray[np.float64]:
    """Return what numpy makes of the same product, in double."""
    if kind == "fp32":
        exact: npt.NDArray[np.float64] = x.astype(np.float64) @ weights.astype(np.float64)
        return exact
    values, scale = quantized(weights)
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    step = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / step), 0, 255)
    rows = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    product: npt.NDArray[np.float64] = rows.astype(np.float64) @ values.astype(np.float64)
    return product * np.float64(step) * scale


def is_right(kind: str, shape: Shape, y: FloatArray, x: FloatArray, weights: FloatArray) -> bool:
    """Compare some rows with numpy's; the scale of 8-bit rows comes from all of them."""
    rows = np.linspace(0, len(x) - 1, min(len(x), 16)).astype(int)
    if kind == "int8":  # the rows with the least and the largest value must be among those compared
        rows = np.union1d(rows, [int(x.min(axis=1).argmin()), int(x.max(axis=1).argmax())])
    right = expected(kind, x[rows], weights)
    error = float(np.square(y[rows] - right).sum() / np.square(right).sum())
    if not error <= TOLERANCE[kind]:
        print(f"{kind} {shape.name}: differs from numpy by {error:g} of its square", file=sys.stderr)
    return error <= TOLERANCE[kind]


def measure(sessions: list[Any], x: FloatArray, n_repetitions: int, budget_s: float) -> list[float]:
    """Return seconds of products; each session, a copy of the weights, in turn."""
    for session in sessions:
        session.run(None, {"x": x})
    samples: list[float] = []
    start = time.perf_counter()
    while len(samples) < 3 or (len(samples) < n_repetitions and time.perf_counter() - start < budget_s):
        session = sessions[len(samples) % len(sessions)]
        before = time.perf_counter()
        session.run(None, {"x": x})
        samples.append(time.perf_counter() - before)
    return samples


def row_of(kind: str, shape: Shape, samples: list[float], ceilings: dict[str, float]) -> dict[str, Any]:
    """Return a row in the form of the native programs."""
    n_bytes = shape.n_rows * shape.n_columns * (4 if kind == "fp32" else 1)
    n_operations = 2 * shape.n_rows * shape.n_columns * shape.n_tokens
    median = statistics.median(samples)
    read, peak = ceilings.get("read"), ceilings.get(CEILING[kind])
    return {
        "name": shape.name,
        "type": kind,
        "columns": shape.n_tokens,
        "memory": "CPU",
        "rows": shape.n_rows,
        "inputs": shape.n_columns,
        "count": shape.n_times,
        "n_bytes": n_bytes,
        "n_operations": n_operations,
        "median_s": median,
        "min_s": min(samples),
        "stddev_s": statistics.stdev(samples),
        "gb_per_s": n_bytes / median / 1e9,
        "gflop_per_s": n_operations / median / 1e9,
        "percent_of_bandwidth": 100 * n_bytes / median / read / 1e9 if read else None,
        "percent_of_peak": 100 * n_operations / median / peak / 1e9 if peak else None,
        "samples_s": samples,
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--shapes", default="llava-1.5-7b")
    parser.add_argument("--only", default="")
    parser.add_argument("--types", default="fp32,int8")
    parser.add_argument("--ceilings", default="")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args(arguments)
    options.types = options.types.split(",")
    if unknown := [kind for kind in options.types if kind not in TOLERANCE]:
        wrong_call(f"unknown type {unknown[0]!r}; there is: {', '.join(TOLERANCE)}")
    try:
        pairs = [part.split("=") for part in options.ceilings.split(",") if part]
        options.ceilings = {name: float(value) for name, value in pairs}
    except ValueError:
        wrong_call(f"--ceilings takes read=GB/s,fma_f32=GFLOP/s,dot_int8=GFLOP/s, not {options.ceilings!r}")
    return options


def main(arguments: list[str]) -> int:
    """Check, measure and print."""
    import onnxruntime

    options = parse(arguments)
    shapes = [shape for shape in read_shapes(options.shapes) if options.only in {"", shape.name}]
    if not shapes:
        wrong_call(f"no line 'vision {options.only}'")
    head = {
        "bench": "vision",
        "host": platform.node(),
        "device": "CPU",
        "n_threads": options.threads,
        "onnxruntime": onnxruntime.__version__,
        "excluded": "making the session, other operations of the graph; int8 includes quantizing the rows",
        "shapes": Path(options.shapes).stem if options.shapes.endswith(".txt") else options.shapes,
        "ceilings": {**options.ceilings, "source": "given by the caller"} if options.ceilings else None,
    }
    for name, value in head.items():
        print(f"{name:14} {json.dumps(value)}")
    print(f"{'name':12} {'type':5} {'columns':7} {'median ms':>11} {'GFLOP/s':>9} {'% peak':>7}")
    onnxruntime.set_global_thread_pool_sizes(options.threads, 1)
    rows = []
    for shape in shapes:
        generator = np.random.default_rng(1)
        x = generator.uniform(-1, 1, (shape.n_tokens, shape.n_columns)).astype(np.float32)
        weights = generator.uniform(-1, 1, (shape.n_columns, shape.n_rows)).astype(np.float32)
        for kind in options.types:
            n_bytes = weights.size * (4 if kind == "fp32" else 1)
            n_copies = 1 if options.check else min(32, -(-COLD_BYTES // n_bytes))
            sessions = [make_session(kind, weights) for _ in range(n_copies)]
            if not is_right(kind, shape, sessions[0].run(None, {"x": x})[0], x, weights):
                return 1
            if options.check:
                continue
            row = row_of(kind, shape, measure(sessions, x, options.repetitions, options.seconds), options.ceilings)
            rows.append(row)
            share = f"{row['percent_of_peak']:.1f}" if row["percent_of_peak"] else "-"
            print(
                f"{shape.name:12} {kind:5} {shape.n_tokens:<7} {row['median_s'] * 1e3:11.4f} "
                f"{row['gflop_per_s']:9.1f} {share:>7}",
                flush=True,
            )
    print("all products are those of numpy" if options.check else json.dumps({**head, "skipped": [], "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
