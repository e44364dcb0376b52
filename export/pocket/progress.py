"""Keep the state of a training run on disk, so that a run that was cut off goes on; let processes train together.

It knows weights, optimizer and how far a run has come, in steps: a run that was stopped for a while is the same run.
It does not know what is trained.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, multiprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

PATIENCE = timedelta(hours=24)
"""A run may be stopped for a while, one process after the other."""


def device() -> torch.device:
    """Return what to train on: a GPU if PyTorch sees one, otherwise the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_rate(optimizer: torch.optim.Optimizer, rate: float, share: float) -> None:
    """Set the learning rate of a step to a share of ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * share


@contextmanager
def beside(n: int, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Call ``work(*arguments)`` in ``n`` processes that share their gradients, while the caller does something else.

    At the end of the context they are waited for; if it ends with an error, they are ended too. On shared cores, two
    processes of one thread each wait less for one another than two threads do, whose every operation ends when the
    slower one does.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = (Path(folder) / "meeting").as_uri()
        started = multiprocessing.spawn(_join, (n, place, torch.get_num_threads(), work, arguments), n, join=False)
        try:
            yield
        except BaseException:
            for process in started.processes:
                process.terminate()
            raise
        while not started.join():
            pass


def _join(number: int, n: int, place: str, n_threads: int, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    """Be one of several processes that train together; it ends when the one that started it was killed."""
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(n_threads)
    distributed.init_process_group("gloo", init_method=place, rank=number, world_size=n, timeout=PATIENCE)
    work(*arguments)
    distributed.barrier()
    distributed.destroy_process_group()


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def rank() -> int:
    """Return which of several processes that train together this is; 0 if it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def n_together() -> int:
    """Return how many processes train together; 1 if this one is alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Take the mean of the gradients of all processes that train together."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.ravel() for g in gradients]).cpu()  # one GPU may have several processes, which NCCL refuses
    distributed.all_reduce(flat)
    flat /= n_together()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state whole or not at all; of processes that train together, the first does."""
    if rank():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore a saved state if there is one; return the steps made."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
