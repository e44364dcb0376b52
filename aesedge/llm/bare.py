"""llama.cpp's calls as llama-bench times them, in a KV cache of their own; knows no scheduler, no photos and no text.

What the engine adds is not in these times: its photos that fill the same cache, Python between two tokens. So they are
what tools/llama-bench/llama-bench.cpp measures at the same settings (``test_prompt``, ``test_gen``).
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.errors import InferenceError
from aesedge.llm import binding
from aesedge.llm.interrupt import result_unless_stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import numpy.typing as npt

    from aesedge.llm.context import Context

_SEQ = 0


class Bare:
    """One sequence. Close it, or use it as a context manager.

    Args:
        context: empty, with one sequence; it is closed with this.
        n_batch: rows in a batch at most.
        submit: runs work on another thread, so that Ctrl-C reaches Python while llama.cpp computes. Where an engine is
            open it must be the engine's: for every thread that calls llama.cpp, OpenMP keeps threads of its own, and
            with more of them than cores they sleep at each barrier instead of spinning, which cost a tenth of the
            speed of decoding at 7B.
    """

    def __init__(self, context: Context, *, n_batch: int, submit: Callable[[Callable[[], int]], Future[int]]) -> None:
        self._lib: Any = binding.load()
        self._context = context
        self._n_batch = n_batch
        self._memory = self._lib.llama_get_memory(context.handle)
        self._rng = np.random.default_rng()
        self._filled: dict[int, npt.NDArray[np.uint8]] = {}
        self._submit = submit

    def prefill(self, n: int) -> int:
        """Prefill so many random tokens into the empty sequence; return nanoseconds."""
        return self._do(lambda: self._prefill(n))

    def prefill_rows(self, rows: npt.NDArray[np.float32]) -> int:
        """Prefill embeddings, float32 [n, n_embd], into the empty sequence; return nanoseconds."""
        return self._do(lambda: self._prefill_rows(rows))

    def fill(self, depth: int, state: npt.NDArray[np.uint8], n_positions: int) -> None:
        """Keep what stands before :meth:`decode` at this depth: a saved sequence, and random tokens behind it.

        Args:
            depth: positions in all.
            state: what :meth:`aesedge.llm.Context.save` returned, of the same model and settings.
            n_positions: how many positions it holds.
        """
        self._do(lambda: self._fill(depth, state, n_positions))

    def decode(self, n: int, depth: int = 0) -> int:
        """Decode random tokens one by one into the empty sequence, or behind what was filled; return nanoseconds."""
        return self._do(lambda: self._decode(n, depth))

    def _do(self, work: Callable[[], int]) -> int:
        return result_unless_stopped(self._submit(work), self._context.abort)

    def _empty(self) -> None:
        self._context.truncate(_SEQ, 0)
        self._lib.llama_memory_clear(self._memory, False)

    def _even(self, n: int) -> int:
        """Return the size of even batches, as the engine makes them."""
        return -(-n // -(-n // self._n_batch))

    def _tokens(self, n: int) -> npt.NDArray[np.int32]:
        return self._rng.integers(self._context.model.n_vocab, size=n, dtype=np.int32)

    def _prefill(self, n: int) -> int:
        self._empty()
        return self._timed(n, self._even(n))

    def _prefill_rows(self, rows: npt.NDArray[np.float32]) -> int:
        self._empty()
        n_at_once = self._even(len(rows))
        started = time.perf_counter_ns()
        for start in range(0, len(rows), n_at_once):
            self._context.prefill_embeddings(_SEQ, rows[start : start + n_at_once])
        self._lib.llama_synchronize(self._context.handle)
        return time.perf_counter_ns() - started

    def _decode(self, n: int, depth: int) -> int:
        self._empty()
        if depth:
            self._context.restore(_SEQ, self._filled[depth], depth)
        return self._timed(n, 1)

    def _fill(self, depth: int, state: npt.NDArray[np.uint8], n_positions: int) -> int:
        self._empty()
        self._context.restore(_SEQ, state, n_positions)
        if depth > n_positions:
            self._context.prefill_tokens(_SEQ, self._tokens(depth - n_positions).tolist())
        self._filled[depth] = self._context.save(_SEQ)
        return 0

    def _timed(self, n: int, n_at_once: int) -> int:
        """Decode random tokens behind what is there, each batch with the logits of its last (llama_batch_get_one)."""
        lib, handle, tokens = self._lib, self._context.handle, self._tokens(n)
        pointers = [
            (tokens[i:].ctypes.data_as(ctypes.POINTER(ctypes.c_int32)), min(n_at_once, n - i))
            for i in range(0, n, n_at_once)
        ]
        batches = [lib.llama_batch_get_one(pointer, length) for pointer, length in pointers]
        decode, synchronize = lib.llama_decode, lib.llama_synchronize
        status = 0
        started = time.perf_counter_ns()
        for batch in batches:
            status = status or decode(handle, batch)
            synchronize(handle)
        ns = time.perf_counter_ns() - started
        if status != 0:
            raise InferenceError(f"llama.cpp failed while it was timed (status {status}): {binding.last_complaint()}")
        return ns

    def close(self) -> None:
        """Free the KV cache. Closing twice does nothing."""
        self._context.close()

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
