"""Set PyTorch's number of CPU threads while a model is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from typing_extensions import Self


class OnTorchThreads:
    """Set PyTorch's number of CPU threads, and restore the previous number on close."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads_before = torch.get_num_threads()
        torch.set_num_threads(n_threads)

    def close(self) -> None:
        """Restore the previous number of threads."""
        torch.set_num_threads(self._n_threads_before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
