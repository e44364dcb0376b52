"""Book-keeping of the KV cache: which sequence holds which cells; knows counts, not what is in them.

llama.cpp has no call that tells how many cells are free, and some requests that do not fit abort the process. With
this ledger every request is checked before llama.cpp sees it. It mirrors a unified KV cache: copying a sequence
shares its cells, and a cell is free when the last sequence that holds it has let go.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_EMPTY = np.empty(0, np.int32)


class CellLedger:
    """Who holds the cells of one unified KV cache of ``n_cells``."""

    def __init__(self, n_cells: int) -> None:
        self._n_holders = np.zeros(n_cells, np.int32)
        self._cells: dict[int, npt.NDArray[np.int32]] = {}

    @property
    def n_free(self) -> int:
        """Cells that no sequence holds."""
        return int(np.count_nonzero(self._n_holders == 0))

    def n_positions(self, seq_id: int) -> int:
        """Positions that a sequence has; its next one has this number."""
        return len(self._cells.get(seq_id, _EMPTY))

    def append(self, seq_id: int, n: int) -> None:
        """Give a sequence n more cells; the caller has checked ``n_free``."""
        free = np.flatnonzero(self._n_holders == 0)[:n].astype(np.int32)
        if len(free) < n:
            raise ValueError(f"{n} cells wanted, {len(free)} free")
        self._n_holders[free] += 1
        self._cells[seq_id] = np.concatenate([self._cells.get(seq_id, _EMPTY), free])

    def share(self, source: int, target: int) -> None:
        """Let the empty sequence ``target`` hold the cells of ``source`` too."""
        cells = self._cells.get(source, _EMPTY)
        self._n_holders[cells] += 1
        self._cells[target] = cells

    def truncate(self, seq_id: int, n_positions: int) -> None:
        """Let a sequence keep only its first positions."""
        cells = self._cells.get(seq_id, _EMPTY)
        self._n_holders[cells[n_positions:]] -= 1
        self._cells[seq_id] = cells[:n_positions]
