"""llama.cpp's own quantizer, in a process of its own: the reference for the files that export writes.

It is one native call that cannot be interrupted from Python and prints a line per tensor; as a process it ends at
Ctrl-C and its log stays out of ours.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One file to quantize."""

    source: Path
    target: Path
    file_type: int
    importance: Mapping[str, np.ndarray] | None = None


def quantize_with_llama(jobs: Sequence[Job], *, n_threads: int = 1) -> None:
    """Quantize files one after another; sources in a quantized type are allowed."""
    with tempfile.TemporaryDirectory() as folder:
        orders = []
        for i, job in enumerate(jobs):
            path = None
            if job.importance is not None:
                path = f"{folder}/{i}.npz"
                np.savez(path, **{name: np.asarray(v, np.float32) for name, v in job.importance.items()})
            orders.append([str(job.source), str(job.target), job.file_type, path, n_threads])
        done = subprocess.run(
            [sys.executable, __file__], input=json.dumps(orders), capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"llama.cpp's quantizer failed: {done.stderr[-2000:]}")


def tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return every tensor's type, shape and bytes."""
    return {
        t.name: (t.tensor_type.name, tuple(t.shape.tolist()), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors
    }


def _main() -> int:
    import llama_cpp.llama_cpp as lib

    lib.llama_backend_init()
    lib.llama_log_set(lib.llama_log_callback(0), None)  # back to stderr, which the parent reads
    for source, target, file_type, importance, n_threads in json.load(sys.stdin):
        params = lib.llama_model_quantize_default_params()
        params.ftype, params.nthread, params.allow_requantize = file_type, n_threads, True
        kept = []
        if importance is not None:
            values = dict(np.load(importance))
            entries = (lib.llama_model_imatrix_data * (len(values) + 1))()
            for entry, (name, data) in zip(entries, values.items(), strict=False):
                entry.name, entry.size = name.encode(), data.size
                entry.data = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
                kept.append(data)
            params.imatrix = ctypes.cast(entries, ctypes.POINTER(lib.llama_model_imatrix_data))
        status = lib.llama_model_quantize(source.encode(), target.encode(), params)
        if status != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
