"""How many CPU threads PyTorch takes, of the whole process, while something of it is open; knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from typing_extensions import Self


class OnTorchThreads:
    """What is open on so many CPU threads and gives the process its earlier number back when it is closed."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads_before = torch.get_num_threads()
        torch.set_num_threads(n_threads)

    def close(self) -> None:
        """Give the process its threads back."""
        torch.set_num_threads(self._n_threads_before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
