"""Time prefill and decode as llama-bench does: llama.cpp's calls alone, in a KV cache of their own.

These times exclude what the engine adds (other photos in the cache, Python between tokens) and equal what
tools/llama-bench/llama-bench.cpp measures at the same settings (``test_prompt``, ``test_gen``).
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.errors import InferenceError
from aesedge.llm import binding
from aesedge.llm.limits import even_ubatch
from aesedge.system.closing import Closing
from aesedge.system.interrupt import result_unless_stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import numpy.typing as npt

    from aesedge.llm.context import Context

_SEQ = 0  # what llama_batch_get_one appends to


def decode_ns(handle: Any, tokens: npt.NDArray[np.int32], n_at_once: int) -> int:
    """Append tokens to sequence 0 of a llama_context, each batch with the logits of its last; return nanoseconds.

    Raises:
        InferenceError: llama.cpp failed.
    """
    lib, n, status = binding.load(), len(tokens), 0
    pieces = [np.ascontiguousarray(tokens[i : i + n_at_once]) for i in range(0, n, n_at_once)]
    pointers = [piece.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)) for piece in pieces]
    batches = [lib.llama_batch_get_one(pointer, len(piece)) for pointer, piece in zip(pointers, pieces, strict=True)]
    decode, synchronize = lib.llama_decode, lib.llama_synchronize
    started = time.perf_counter_ns()
    for batch in batches:
        status = status or decode(handle, batch)
        synchronize(handle)
    took = time.perf_counter_ns() - started
    if status != 0:
        raise InferenceError(f"llama.cpp failed while it was timed (status {status}): {binding.last_complaint()}")
    return took


def timed_ns(handle: Any, work: Callable[[], object]) -> int:
    """Do something with a llama_context; return the nanoseconds until a GPU has finished too."""
    started = time.perf_counter_ns()
    work()
    binding.load().llama_synchronize(handle)
    return time.perf_counter_ns() - started


class RawTimer(Closing):
    """Times what llama.cpp does with a context. Close it, or use it as a context manager.

    Args:
        context: empty; it is closed with this.
        n_ubatch: tokens or embeddings in a batch at most.
        submit: runs work on another thread, so that Ctrl-C reaches Python while llama.cpp computes. If an engine is
            open it must be the engine's thread: OpenMP keeps a thread pool for every thread that calls llama.cpp, and
            with more threads than cores they sleep at barriers instead of spinning, which costs a tenth of the decode
            speed at 7B.
    """

    def __init__(self, context: Context, *, n_ubatch: int, submit: Callable[[Callable[[], int]], Future[int]]) -> None:
        self.context = context
        self._n_ubatch = n_ubatch
        self._submit = submit
        self._rng = np.random.default_rng()
        self._filled = np.empty(0, np.uint8)
        self._depth = 0

    def prefill(self, n: int) -> int:
        """Prefill random tokens into the empty sequence; return nanoseconds."""
        return self._do(lambda: self._append(n, even_ubatch(n, self._n_ubatch)))

    def prefill_embeddings(self, embeddings: npt.NDArray[np.float32]) -> int:
        """Prefill embeddings, float32 [n, n_embd], into the empty sequence; return nanoseconds."""
        context, n = self.context, self._n_ubatch
        return self._do(lambda: timed_ns(context.handle, lambda: prefill_evenly(context, _SEQ, embeddings, n)))

    def decode(self, n: int) -> int:
        """Decode random tokens one by one into the empty sequence; return nanoseconds."""
        return self._do(lambda: self._append(n, 1))

    def decode_at_depth(self, n: int) -> int:
        """Decode random tokens one by one behind what :meth:`fill` prepared; return nanoseconds."""
        return self._do(lambda: self._append(n, 1), lambda: self.context.restore(_SEQ, self._filled, self._depth))

    def decode_on(self, n: int) -> int:
        """Decode random tokens one by one behind what the last call left; return nanoseconds."""
        return result_unless_stopped(self._submit(lambda: self._append(n, 1)), self.context.abort)

    def fill(self, depth: int, state: npt.NDArray[np.uint8], n_positions: int) -> None:
        """Prepare what stands before :meth:`decode_at_depth`: a saved sequence, and random tokens behind it.

        Args:
            depth: positions in all.
            state: what :meth:`aesedge.llm.Context.save` returned, of the same model and settings.
            n_positions: how many positions it holds.
        """

        def work() -> int:
            if depth > n_positions:
                self.context.prefill_tokens(_SEQ, self._random(depth - n_positions).tolist())
            self._filled, self._depth = self.context.save(_SEQ), depth
            return 0

        self._do(work, lambda: self.context.restore(_SEQ, state, n_positions))

    def _append(self, n: int, n_at_once: int) -> int:
        return decode_ns(self.context.handle, self._random(n), n_at_once)

    def _do(self, work: Callable[[], int], prepare: Callable[[], object] = lambda: None) -> int:
        """Empty the sequence, prepare it, and do the work, on the thread for it."""

        def on_thread() -> int:
            self.context.truncate(_SEQ, 0)
            # The context does not count what was appended without it.
            lib = binding.load()
            lib.llama_memory_clear(lib.llama_get_memory(self.context.handle), False)
            prepare()
            return work()

        return result_unless_stopped(self._submit(on_thread), self.context.abort)

    def _random(self, n: int) -> npt.NDArray[np.int32]:
        return self._rng.integers(self.context.model.n_vocab, size=n, dtype=np.int32)

    def close(self) -> None:
        """Free the KV cache. Closing twice does nothing."""
        self.context.close()


def prefill_evenly(context: Context, seq_id: int, embeddings: npt.NDArray[np.float32], n_ubatch: int) -> None:
    """Append embeddings to a sequence in even batches, as the engine does."""
    n = even_ubatch(len(embeddings), n_ubatch)
    for start in range(0, len(embeddings), n):
        context.prefill_embeddings(seq_id, embeddings[start : start + n])
