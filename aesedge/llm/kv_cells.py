"""Count the cells of the KV cache that each sequence holds.

llama.cpp has no call that returns the number of free cells, and some requests that do not fit abort the process; with
these counts every request is checked first. They mirror a unified KV cache: copying a sequence shares its cells, and a
cell is free when no sequence holds it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_EMPTY = np.empty(0, np.int32)


class KVCells:
    """Reference counts of the cells of one unified KV cache."""

    def __init__(self, n_cells: int) -> None:
        self._n_holders = np.zeros(n_cells, np.int32)
        self._free = list(range(n_cells - 1, -1, -1))
        self._cells: dict[int, npt.NDArray[np.int32]] = {}

    @property
    def n_free(self) -> int:
        """Number of cells that no sequence holds."""
        return len(self._free)

    def n_positions(self, seq_id: int) -> int:
        """Return the number of positions in a sequence, which is the next position."""
        return len(self._cells.get(seq_id, _EMPTY))

    def append(self, seq_id: int, n: int) -> None:
        """Add n cells to a sequence; the caller has checked ``n_free``."""
        if n > len(self._free):
            raise ValueError(f"{n} cells wanted, {len(self._free)} free")
        taken = [self._free.pop() for _ in range(n)]
        self._n_holders[taken] = 1
        self._cells[seq_id] = np.append(self._cells.get(seq_id, _EMPTY), np.array(taken, np.int32))

    def share(self, source: int, target: int) -> None:
        """Add the cells of ``source`` to the empty sequence ``target``."""
        cells = self._cells.get(source, _EMPTY)
        self._n_holders[cells] += 1
        self._cells[target] = cells

    def truncate(self, seq_id: int, n_positions: int) -> None:
        """Remove all but the first positions of a sequence."""
        cells = self._cells.get(seq_id, _EMPTY)
        left = cells[n_positions:]
        self._n_holders[left] -= 1
        self._free += left[self._n_holders[left] == 0].tolist()
        self._cells[seq_id] = cells[:n_positions]
