"""Build a llama_batch from numpy arrays and decode it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aesedge.system.openmp_waiting import openmp_waiting

if TYPE_CHECKING:
    from collections.abc import Sequence


def laid_out(parts: Sequence[tuple[int, Any]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Return the sequence id of every position of the parts laid end to end, int32 [n], and the last of each part."""
    lengths = [len(part) for _, part in parts]
    return np.repeat(np.array([seq_id for seq_id, _ in parts], np.int32), lengths), np.cumsum(lengths) - 1


class TokenBatch(NamedTuple):
    """Tokens or embeddings of one call of llama_decode; n is their number."""

    seq_ids: npt.NDArray[np.int32]
    """Sequence of each, int32 [n]."""
    positions: npt.NDArray[np.int32]
    """Position in the sequence, int32 [n]."""
    outputs: npt.NDArray[np.int8]
    """Whether the logits after it are wanted, int8 [n]."""
    tokens: npt.NDArray[np.int32] | None
    """Token ids, int32 [n]."""
    embeddings: npt.NDArray[np.float32] | None
    """float32 [n, n_embd], in place of tokens."""

    def decode(self, lib: Any, handle: Any) -> int:
        """Call llama_decode and return its status; this frame keeps the arrays alive."""
        n = len(self.seq_ids)
        ones = np.ones(n, np.int32)
        seq_ids = np.ascontiguousarray(self.seq_ids)
        addresses = seq_ids.ctypes.data + seq_ids.itemsize * np.arange(n, dtype=np.uintp)
        batch = lib.llama_batch(
            n_tokens=n,
            token=pointer(self.tokens, ctypes.c_int32),
            embd=pointer(self.embeddings, ctypes.c_float),
            pos=pointer(self.positions, ctypes.c_int32),
            n_seq_id=pointer(ones, ctypes.c_int32),
            seq_id=pointer(addresses, ctypes.POINTER(ctypes.c_int32)),
            logits=pointer(self.outputs, ctypes.c_int8),
        )
        openmp_waiting.adapt(max(lib.llama_n_threads(handle), lib.llama_n_threads_batch(handle)))
        return int(lib.llama_decode(handle, batch))


def pointer(array: npt.NDArray[Any] | None, ctype: Any) -> Any:
    """Return a C pointer into an array, or NULL; the array must stay alive while the pointer is used."""
    return None if array is None else ctypes.cast(array.ctypes.data, ctypes.POINTER(ctype))
