"""Check and time every kernel at the shapes of a model, and print a report: what ``aesedge bench --kernels`` runs.

    python kernels_bench/kernel_report.py --gguf FILE --type q4_k_m [--name NAME] [--heads HEADS,KV,DIM,LAYERS]
        [--threads N] [--seconds S] [--device cpu|gpu] [--ceilings JSON]

Prints the lines of the native programs as they come, and a line of JSON whenever one of them has ended: what there is
by then. The last line is whole.
"""
# ruff: noqa: INP001, T201 - a script of its own, which reports on the terminal

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from model_shapes import write_shapes
from native_programs import require_installed_ggml, require_native, run_native

from aesedge.bench.ceilings import Ceilings, better, measure_ceilings
from aesedge.errors import AesedgeError, UsageError
from aesedge.llm.accelerator import Kernels, kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aesedge.bench.ceilings import Device
    from aesedge.engine.model import Model

_HERE = Path(__file__).resolve().parent
COLUMNS = (1, 8, 16, 64, 144, 576)
_DEPTHS = (576, 640)
_FORMS = ("f16", "q8_0", "plain")
_VISION_TYPES = ("fp32", "int8")
_FLOATS = {"f32", "f16", "bf16", "fp32"}  # products that are not computed in 8 bits
OWN_TYPES = ("q4_k", "q5_k", "q6_k", "q4_0", "q8_0")
"""What aesedge's own kernels multiply."""
_LEAST_ROW_S = 0.05
_TIMEOUT_S = 3600.0
_ALL_S, _ALL_TIMEOUT_S = 60.0, 4 * 3600.0
"""For all kernels together; making their data comes on top."""
# A GGUF file's type -> those of most of its matrices. What is not here is a type of matrices itself.
_TENSOR_TYPES = {
    "q2_k": ("q2_k", "q3_k", "q6_k"),
    "q3_k_s": ("q3_k", "q6_k"),
    "q3_k_m": ("q3_k", "q4_k", "q5_k", "q6_k"),
    "q3_k_l": ("q3_k", "q5_k", "q6_k"),
    "q4_k_s": ("q4_k", "q5_k", "q6_k"),
    "q4_k_m": ("q4_k", "q6_k"),
    "q5_k_s": ("q5_k", "q6_k"),
    "q5_k_m": ("q5_k", "q6_k"),
}


Kernel = Literal["matmul", "attention", "dequantize", "vision"]


class KernelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel at one shape."""

    kernel: Kernel
    name: str
    """Of the matrix or the heads in the file of shapes."""
    type: str
    """Of the weights; of attention: ``f16`` and ``q8_0`` fused, ``plain`` in f16 and not fused."""
    columns: int
    """Tokens that are computed together; 0 for dequantization."""
    repacked: bool
    is_ours: bool = False
    """Whether aesedge's own kernels computed it, not ggml's."""
    memory: str
    """ggml's name of the kind of memory that the weights lie in."""
    depth: int
    """Positions in the KV cache; 0 but for attention."""
    count: int
    """How often the model has it."""
    n_bytes: float
    """What must be read once: weights, keys and values; of dequantization what is written too."""
    n_operations: float
    seconds: float
    """Median of the samples."""
    seconds_min: float
    gflop_per_s: float
    gb_per_s: float
    percent_of_bandwidth: float | None
    percent_of_peak: float | None
    """Of the float peak for float types and attention, of the 8-bit peak for all others."""
    samples_s: list[float]


class KernelReport(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a run."""

    shape: str
    device: str
    host: str
    n_threads: int
    ggml: str
    """Version and commit."""
    ceilings: Ceilings
    rows: list[KernelRow]
    skipped: list[str]
    """What there is no kernel or no room for."""
    excluded: dict[str, str]
    """By kernel: what its figures do not contain."""


class _Part(NamedTuple):
    kernel: Kernel
    command: list[str | Path]
    n_rows: int
    is_ours: bool = False


def tensor_types(gguf: str) -> tuple[str, ...]:
    """Return the types of most matrices in a GGUF file of this type: ``q4_k_m`` -> q4_k, q6_k."""
    return _TENSOR_TYPES.get(gguf.lower(), (gguf.lower(),))


def run_kernels(
    shape: str,
    types: Sequence[str],
    columns: Sequence[int] = COLUMNS,
    *,
    n_threads: int,
    seconds: float = 60.0,
    device: Device = "cpu",
    ceilings: Ceilings | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[KernelReport]:
    """Check and time every kernel at the shapes of a model.

    Args:
        shape: name of a file in kernels_bench/shapes, or the path of another one.
        types: of GGUF files (``q4_k_m``) or of matrices (``q4_k``).
        columns: how many tokens at once.
        n_threads: threads of the CPU.
        seconds: about how long the timing may take in all. Making the data comes on top, and large shapes are run
            three times however long it takes.
        device: where.
        ceilings: what was measured before; None measures them now. They are measured again afterwards.
        progress: gets each line of the tables as it comes.

    Yields:
        What there is, whenever one of the programs has ended; the last report is whole.

    Raises:
        UsageError: there is no such type, shape or device.
        AesedgeError: the programs are not built or not with this ggml, or a kernel's results are wrong.
    """
    if not types or not columns or min(columns) < 1:
        raise UsageError("give at least one type, and numbers of columns from 1")
    folder = require_native(device)
    ceilings = ceilings or measure_ceilings(n_threads, device)
    common = ["--shapes", shape, "--threads", str(n_threads), *_ceilings_option(ceilings)]
    skipped: list[str] = []
    own = kernels() if device == "cpu" else Kernels(reason="they are for CPUs")
    if own.library is None:
        skipped.append(f"aesedge's kernels: {own.reason}")
    parts = _native_parts(folder, types, columns, device, own.library, common)
    vision = _vision_part(common) if device == "cpu" else "vision: measured on the CPU only"
    if isinstance(vision, str):
        skipped.append(vision)
    else:
        parts.append(vision)
    per_row = max(_LEAST_ROW_S, seconds / sum(part.n_rows for part in parts))
    measured: list[tuple[_Part, dict[str, Any]]] = []
    excluded: dict[str, str] = {}
    head: dict[str, Any] = {}

    def so_far(ceilings: Ceilings) -> KernelReport:
        return KernelReport(
            shape=head["shapes"],
            device=head["device"],
            host=head["host"],
            n_threads=n_threads,
            ggml=f"{head['ggml_version']} {head['ggml_commit']}",
            ceilings=ceilings,
            rows=[_row(part, found, ceilings) for part, found in measured],
            skipped=[*skipped],
            excluded={**excluded},
        )

    for part in parts:
        command = [*part.command, "--seconds", f"{per_row:.3f}"]
        report = run_native(command, timeout_s=_TIMEOUT_S, progress=progress)
        if part.kernel != "vision":
            require_installed_ggml(report)
            head = head if part.is_ours else report
        measured += [(part, found) for found in report["rows"]]
        skipped += [f"{part.kernel}: {reason}" for reason in report["skipped"]]
        excluded[part.kernel] = report["excluded"]
        yield so_far(ceilings)
    yield so_far(better(ceilings, measure_ceilings(n_threads, device)))


def _ceilings_option(ceilings: Ceilings) -> list[str]:
    """Return the option that tells the programs the ceilings; without it each would measure them again."""
    named = {
        "read": ceilings.read_bytes_per_s,
        "fma_f32": ceilings.fma_flops_per_s,
        "dot_int8": ceilings.int8_ops_per_s,
    }
    known = [f"{name}={value / 1e9:.4f}" for name, value in named.items() if value]
    return ["--ceilings", ",".join(known)] if known else []


def _native_parts(
    folder: Path, types: Sequence[str], columns: Sequence[int], device: str, own: Path | None, options: list[str]
) -> list[_Part]:
    common = ["--device", device, *options]
    matrices = list(dict.fromkeys(type_ for gguf in types for type_ in tensor_types(gguf)))
    of_types, of_columns = ["--types", ",".join(matrices)], ["--columns", ",".join(map(str, columns))]
    several = ",".join(str(n) for n in columns if n > 1)
    products = []
    for kind in matrices:  # one after the other, so that what else the machine does falls on both
        command: list[str | Path] = [folder / "matmul", "--types", kind]
        products.append(_Part("matmul", [*command, *of_columns, *common], 2 * 4 * len(columns)))
        if own is not None and several and kind in OWN_TYPES:
            ours = ["--columns", several, "--repack", "off", "--device", str(own), *options]
            products.append(_Part("matmul", [*command, *ours], 4 * len(columns), is_ours=True))
    return [
        *products,
        _Part("attention", [folder / "attention", *of_columns, *common], len(_FORMS) * len(_DEPTHS) * len(columns)),
        _Part("dequantize", [folder / "dequantize", *of_types, *common], len(matrices)),
    ]


def _vision_part(common: list[str]) -> _Part | str:
    """Return the tower's products, or why they are left out."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            return f"vision: the package {package} is not installed"
    return _Part("vision", [sys.executable, _HERE / "vision_products.py", *common], 6 * len(_VISION_TYPES))


def _row(part: _Part, found: dict[str, Any], ceilings: Ceilings) -> KernelRow:
    kernel = part.kernel
    is_float = kernel == "attention" or found["type"] in _FLOATS
    peak = ceilings.fma_flops_per_s if is_float else ceilings.int8_ops_per_s
    bytes_per_s, flops_per_s = (found[amount] / found["median_s"] for amount in ("n_bytes", "n_operations"))
    return KernelRow(
        kernel=kernel,
        name=found["name"],
        type=found["type"],
        columns=found.get("columns", 0),
        repacked=found.get("repacked", False),
        is_ours=part.is_ours,
        memory=found.get("memory", ""),
        depth=found.get("depth", 0),
        count=found.get("count", 0),
        n_bytes=found["n_bytes"],
        n_operations=found["n_operations"],
        seconds=found["median_s"],
        seconds_min=found["min_s"],
        gflop_per_s=flops_per_s / 1e9,
        gb_per_s=bytes_per_s / 1e9,
        percent_of_bandwidth=100 * bytes_per_s / ceilings.read_bytes_per_s if ceilings.read_bytes_per_s else None,
        percent_of_peak=100 * flops_per_s / peak if peak and flops_per_s else None,
        samples_s=found["samples_s"],
    )


def time_kernels(
    model: Model, device: Device, ceilings: dict[str, Any], progress: Callable[[dict[str, Any] | None], None]
) -> dict[str, Any]:
    """Check and time every kernel at the shapes of an open model, in a process of its own.

    Args:
        model: the model.
        device: where.
        ceilings: what was measured before; they are measured again afterwards.
        progress: called for every line that is printed, with the report so far where one of the programs has ended.

    Returns:
        A :class:`KernelReport`, in plain data.

    Raises:
        AesedgeError: the programs are not built or not with this ggml, or a kernel's results are wrong.
    """
    llm = model.internals.llm
    command = [
        sys.executable, str(Path(__file__)),
        "--gguf", str(model.bundle.path("llm", model.gguf)), "--type", model.gguf.lower(), "--name", model.bundle.name,
        "--heads", f"{llm.n_head},{llm.n_head_kv},{llm.n_embd // llm.n_head},{llm.n_layer}",
        "--threads", str(model.internals.plan.threads_batch), "--seconds", str(_ALL_S), "--device", device,
        "--ceilings", msgspec.json.encode(ceilings).decode(),
    ]  # fmt: skip

    def hear(line: str) -> None:
        progress(msgspec.json.decode(line, type=dict[str, Any]) if line.startswith("{") else None)

    return run_native(command, timeout_s=_ALL_TIMEOUT_S, progress=hear)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--type", required=True)
    parser.add_argument("--name", default="model")
    parser.add_argument("--heads", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--ceilings")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the program that runs ends too
    with tempfile.TemporaryDirectory(prefix="aesedge-kernels-") as folder:
        shapes = Path(folder) / f"{given.name}.txt"
        write_shapes(given.gguf, given.heads.split(","), shapes)
        reports = run_kernels(
            str(shapes),
            [given.type],
            n_threads=given.threads,
            seconds=given.seconds,
            device=given.device,
            ceilings=given.ceilings and msgspec.json.decode(given.ceilings, type=Ceilings),
            progress=lambda line: print(line, flush=True),
        )
        for report in reports:
            print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except AesedgeError as error:
        sys.exit(str(error))
