"""llama.cpp's own quantizer, in a process of its own; the one place of this package that loads llama.cpp.

The quantizer is one native call that takes minutes at full size and cannot be interrupted from Python: as a process
it ends at Ctrl-C, its log stays out of ours, and a failed assertion in it does not take the exporter down.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf

from aesedge.errors import ModelLoadError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_FALLBACK_ROW = 256  # K-quants work on blocks of this many values; rows of other lengths get a type of blocks of 32

FILE_TYPES = {
    # gguf's names without "MOSTLY_"; Q4_K_M and its like are file types, mixes of tensor types
    kind.name.removeprefix("MOSTLY_"): int(kind)
    for kind in gguf.LlamaFileType
    if kind.name.startswith("MOSTLY_")
}
QUANTIZED_TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_M", "IQ4_NL", "Q2_K")
"""What llama.cpp makes without an importance matrix."""


@dataclass(frozen=True)
class Fallback:
    """A tensor that did not get the asked type."""

    tensor: str
    type: str
    n_row: int
    """Values in a row; not a multiple of 256."""


def quantize(source: Path, target: Path, gguf_type: str) -> list[Fallback]:
    """Quantize an F16 GGUF file.

    Args:
        source: the F16 file.
        target: the file to write.
        gguf_type: one of ``QUANTIZED_TYPES``.

    Returns:
        The tensors whose rows do not fit the type, which llama.cpp stores in a larger one.

    Raises:
        ModelLoadError: llama.cpp refuses.
    """
    # The child finds this package where we found it, installed or not.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", __name__, str(source), str(target), str(FILE_TYPES[gguf_type])]
    with subprocess.Popen(  # noqa: S603 (our own module, paths as arguments, no shell)
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            log, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        lines = log.decode("utf-8", "replace").split("\n")
        telling = [line.strip() for line in lines if "fail" in line or "error" in line.lower()]
        reason = telling[-1] if telling else f"exit status {process.returncode}"
        raise ModelLoadError(f"llama.cpp cannot quantize to {gguf_type}: {reason}")
    return _fallbacks(target, gguf_type)


def _fallbacks(path: Path, gguf_type: str) -> list[Fallback]:
    if "_K" not in gguf_type:
        return []
    return [
        Fallback(tensor.name, tensor.tensor_type.name, int(tensor.shape[0]))
        for tensor in gguf.GGUFReader(path).tensors
        if len(tensor.shape) > 1 and tensor.shape[0] % _FALLBACK_ROW
    ]


def parse_type(text: str) -> str:
    """Return a quantization type as llama.cpp writes it, from any case.

    Raises:
        UsageError: export cannot make it.
    """
    known = ("F16", *QUANTIZED_TYPES)
    found = next((name for name in known if name.lower() == text.strip().lower()), None)
    if found is None:
        raise UsageError(f"unknown quantization type {text!r}; there are {', '.join(known)}")
    return found


def _main(source: str, target: str, file_type: str) -> int:
    """Quantize in this process and return llama.cpp's status."""
    import llama_cpp.llama_cpp as lib

    params = lib.llama_model_quantize_default_params()
    params.ftype = int(file_type)
    lib.llama_backend_init()
    # C's NULL puts llama.cpp's log back on stderr, which the parent reads.
    lib.llama_log_set(lib.llama_log_callback(0), None)
    return int(lib.llama_model_quantize(source.encode(), target.encode(), params))


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
