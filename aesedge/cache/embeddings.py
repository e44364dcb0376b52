"""Cache image embeddings in memory and, optionally, on disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from aesedge.cache.disk_store import DiskStore
    from aesedge.cache.entry_file import Entry

Tier = Literal["ram", "disk"]
Rows = npt.NDArray[np.float32] | npt.NDArray[np.float16]
_STORED = np.dtype("<f2")  # on disk, whatever machine wrote it

RAM_BYTES = 32_000_000
"""For image embeddings in memory, where that is free: 6 photos at 7B, 250 of pocket. The disk holds more, 8 ms away."""


class Hit(NamedTuple):
    """Embeddings that were found."""

    rows: npt.NDArray[np.float16]
    """[n_image_tokens, n_embd], read-only."""
    tier: Tier
    """Where they were."""


class EmbeddingCache:
    """An LRU cache of image embeddings in float16. Thread-safe.

    Embeddings are rounded whether they are cached or not, so that fresh and cached ones are the same bits.

    Args:
        ram_bytes: limit of the arrays in memory.
        disk: second tier, with its own limit.
    """

    def __init__(self, *, ram_bytes: int, disk: DiskStore | None = None) -> None:
        self.ram_bytes = ram_bytes
        self.disk = disk
        self._ram: OrderedDict[str, npt.NDArray[np.float16]] = OrderedDict()  # least recently used first
        self._n_bytes = 0
        self._mutex = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """What the arrays in memory take."""
        return self._n_bytes

    def get(self, key: str) -> Hit | None:
        """Return embeddings and where they were, or None; they count as used now, on disk too."""
        with self._mutex:
            rows = self._ram.get(key)
            if rows is not None:
                self._ram.move_to_end(key)
        if rows is not None:
            if self.disk is not None:
                self.disk.touch(key)  # else the most used entries would be evicted from disk first
            return Hit(rows, "ram")
        entry = self.disk.get(key) if self.disk is not None else None
        if self.disk is None or entry is None:
            return None
        rows = _rows_of(entry)
        if rows is None:  # sound, but written by something else
            self.disk.remove(key)
            return None
        self._keep_in_ram(key, rows)
        return Hit(rows, "disk")

    def put(self, key: str, rows: Rows, *, on_disk: bool = True) -> Rows:
        """Keep embeddings, and return them as :meth:`get` will.

        Args:
            key: from :func:`aesedge.cache.keys.embeddings_key`.
            rows: float32 or float16 [n_image_tokens, n_embd]; copied.
            on_disk: whether they are worth a file.

        Returns:
            float16, read-only. If some value does not fit float16, the rows as they are: they are not kept.
        """
        half = _half(rows)
        if half is None:
            return rows
        half.setflags(write=False)
        self._keep_in_ram(key, half)
        if self.disk is not None and on_disk:
            stored = half.astype(_STORED, order="C", copy=False)
            self.disk.put(key, stored, {"dtype": _STORED.str, "shape": list(stored.shape)})
        return half

    def _keep_in_ram(self, key: str, rows: npt.NDArray[np.float16]) -> None:
        with self._mutex:
            former = self._ram.pop(key, None)
            self._n_bytes -= 0 if former is None else former.nbytes
            if rows.nbytes > self.ram_bytes:  # it would drive out all others and not stay itself
                return
            self._ram[key] = rows
            self._n_bytes += rows.nbytes
            while self._n_bytes > self.ram_bytes:
                _, oldest = self._ram.popitem(last=False)
                self._n_bytes -= oldest.nbytes


def _half(rows: Rows) -> npt.NDArray[np.float16] | None:
    """Return a float16 copy, or None if some value becomes or is infinite or no number."""
    if rows.ndim != 2 or rows.dtype not in (np.float32, np.float16):
        raise UsageError(
            f"image embeddings are float32 or float16 [n_image_tokens, n_embd], not {rows.dtype} {list(rows.shape)}"
        )
    with np.errstate(over="ignore"):  # told by the return value
        half = rows.astype(np.float16, order="C")
    return half if np.isfinite(half).all() else None


def _rows_of(entry: Entry) -> npt.NDArray[np.float16] | None:
    """View a payload as the array that it is, or return None if it is none."""
    shape: Any = entry.metadata.get("shape")
    is_shape = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n >= 0 for n in shape)
    if entry.metadata.get("dtype") != _STORED.str or not is_shape:
        return None
    if shape[0] * shape[1] * _STORED.itemsize != entry.payload.nbytes:
        return None
    rows = entry.payload.view(_STORED).reshape(shape).astype(np.float16, copy=False)
    if not np.isfinite(rows).all():  # such are never kept
        return None
    rows.setflags(write=False)
    return rows
