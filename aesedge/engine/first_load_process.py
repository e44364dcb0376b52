"""Load model files in a child process, as the engine does, and run each once; see :mod:`aesedge.bundle.first_load`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from aesedge.errors import AesedgeError, InferenceError

_N_CTX = 256
_N_TOKENS = 4
_TEXT = "Describe the photo.\n"
_N_THREADS = 1  # more threads wait for each other on a busy machine: 47 s for a 7B and its tower instead of 11 s


def main(arguments: list[str]) -> int:
    """Try files in order; print in JSON lines which one was begun, and what is wrong.

    Args:
        arguments: for each file a step of :data:`aesedge.bundle.first_load.LoadStep` and its path.
    """
    _silence_crashes()
    steps = {"vision": _try_vision, "llm": _try_language_model, "llm header": _try_header}
    for step, path in zip(arguments[::2], arguments[1::2], strict=True):
        _print(begun=path)
        try:
            steps[step](Path(path))
        except AesedgeError as error:
            _print(error=str(error), type=type(error).__name__)
            return 1
    return 0


def _print(**values: str) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _silence_crashes() -> None:
    """Write no core dump and open no window where a library aborts this process."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetErrorMode(0x0003)  # no boxes for critical errors and general protection faults
    else:
        import resource

        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _try_vision(path: Path) -> None:
    from aesedge.vision.tower import VisionTower

    with VisionTower(path, device="cpu", n_threads=_N_THREADS) as tower:
        tower.encode(np.zeros((1, 3, tower.image_size, tower.image_size), np.float32))


def _try_language_model(path: Path) -> None:
    from aesedge.llm import Context, LanguageModel

    with (
        LanguageModel(path, repack=False) as model,
        Context(model, n_ctx=_N_CTX, n_seq_max=2, n_threads=_N_THREADS) as context,
    ):
        for token in range(model.n_vocab):
            model.piece(token)
        tokens = [model.bos, *model.tokenize(_TEXT)][:_N_TOKENS]
        context.prefill_embeddings(0, np.zeros((1, model.n_embd), np.float32))
        if not np.isfinite(context.prefill_tokens(0, tokens)).all():
            raise InferenceError(f"{path}: answers with something that is not a number; export the bundle again")


def _try_header(path: Path) -> None:
    from aesedge.bundle.gguf_tensors import read_weights
    from aesedge.config.memory.dry_run import DryRun

    read_weights(path)
    with DryRun(path) as model:
        model.n_tokens(_TEXT)
        model.buffers(n_ctx=_N_CTX, n_batch=_N_CTX, n_seq_max=2, kv_type="f16")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
