"""Prove at full size that export streams a checkpoint to the very bytes that llama.cpp's own quantizer makes.

    python tests/measure/compare_with_llama_quantize.py CHECKPOINT [--gguf q4_k_m] [--work DIR] [--threads N] [--keep]

Three steps, each in a process of its own: the checkpoint is streamed to the type; it is streamed to a file of its own
precision; llama.cpp quantizes that file. Then every tensor is compared. Printed: how many tensors are equal, seconds
and peak resident memory of the first step, seconds of llama.cpp's (which began from a GGUF file on the disk, ours from
the checkpoint). The work folder needs the room of the three files. The last line is JSON; the exit status is 1 if a
tensor differs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import llama_quantize
import numpy as np
from aesedge_export.checkpoint.checkpoint import open_checkpoint
from aesedge_export.language.checkpoint_source import CheckpointSource
from aesedge_export.language.language_files import report_pass
from aesedge_export.language.language_gguf import write_language
from aesedge_export.language.tensor_types import parse_type
from aesedge_export.progress_display import display_steps

from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.system.machine import default_n_threads

_STREAM = "stream"


def main() -> int:
    """Read the command line and do the steps."""
    parser = argparse.ArgumentParser(description="Compare export's streamed file with llama.cpp's quantizer.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--gguf", default="q4_k_m", help="quantization type")
    parser.add_argument("--work", type=Path, help="where the files are written; by default a temporary folder")
    parser.add_argument("--threads", type=int, default=default_n_threads(1 << 40))
    parser.add_argument("--keep", action="store_true", help="keep the files in the work folder")
    parser.add_argument(f"--{_STREAM}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stream:
        print(json.dumps(_stream(given.checkpoint, given.stream, given.work, given.threads)))
        return 0
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        result = _compare(given, given.work if given.keep and given.work else Path(folder))
    _show(result)
    print(json.dumps(result))
    return 0 if result["n_equal"] == result["n_tensors"] else 1


def _stream(checkpoint: Path, file_type: str, target: Path, n_threads: int) -> dict[str, Any]:
    """Write one file in this process and return what it took."""
    source = CheckpointSource(open_checkpoint(checkpoint), name=checkpoint.name)
    before = _peak_bytes()
    started = time.perf_counter()
    if file_type == "own":
        file_type = source.precision
    with display_steps() as report:
        write_language(
            source, {file_type: target}, n_threads=n_threads, progress=report_pass(report, f"stream to {file_type}")
        )
    return {
        "type": file_type,
        "seconds": time.perf_counter() - started,
        "peak_bytes": _peak_bytes(),
        "peak_bytes_before": before,
        "bytes": target.stat().st_size,
    }


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _compare(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    file_type = parse_type(given.gguf)
    ours, unquantized, theirs = (folder / name for name in ("ours.gguf", "unquantized.gguf", "llama-cpp.gguf"))
    streamed = _in_a_process(given, file_type, ours)
    own = _in_a_process(given, "own", unquantized)
    started = time.perf_counter()
    job = llama_quantize.Job(unquantized, theirs, GGUF_TYPES[file_type].ftype)
    llama_quantize.quantize_with_llama([job], n_threads=given.threads)
    seconds = time.perf_counter() - started
    different = _different(ours, theirs)
    n_tensors = len(gguf.GGUFReader(theirs).tensors)
    return {
        "gguf": file_type,
        "own_precision": own["type"],
        "n_threads": given.threads,
        "n_tensors": n_tensors,
        "n_equal": n_tensors - len(different),
        "different": different[:10],
        "ours": streamed,
        "ours_to_own_precision": own,
        "llama_cpp_seconds": seconds,
    }


def _in_a_process(given: argparse.Namespace, file_type: str, target: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, str(given.checkpoint), f"--{_STREAM}", file_type, "--work", str(target)]
    command += ["--threads", str(given.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _different(ours: Path, theirs: Path) -> list[str]:
    """Return the names of the tensors that are not equal in type, shape and every byte, or are in one file only."""
    one, other = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    found = sorted(set(one) ^ set(other))
    for name in sorted(set(one) & set(other)):
        a, b = one[name], other[name]
        same = a.tensor_type == b.tensor_type and a.shape.tolist() == b.shape.tolist()
        if not same or not np.array_equal(a.data.view(np.uint8), b.data.view(np.uint8)):
            found.append(name)
    return found


def _show(result: dict[str, Any]) -> None:
    ours = result["ours"]
    print(f"{result['gguf']} of a checkpoint in {result['own_precision']}, {result['n_threads']} threads")
    print(f"tensors equal in type, shape and every byte: {result['n_equal']} of {result['n_tensors']}")
    if result["different"]:
        print(f"different: {', '.join(result['different'])}")
    print(f"ours, from the checkpoint: {ours['seconds']:.1f} s for {ours['bytes'] / 1e9:.2f} GB")
    print(
        f"peak resident memory: {ours['peak_bytes'] / 2**20:.0f} MiB, of which "
        f"{ours['peak_bytes_before'] / 2**20:.0f} MiB were there before the first tensor (Python, PyTorch)"
    )
    print(f"llama.cpp, from a GGUF file: {result['llama_cpp_seconds']:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
