"""Display a download: a bar on a terminal, a line for every tenth elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from aesedge.system.byte_sizes import size_text
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .checkpoint_store import Download


@contextmanager
def display_download(
    checkpoint: Download, console: Console | None = None, *, quiet: bool = False
) -> Iterator[Callable[[str, int], None]]:
    """Show on stderr how much of a checkpoint is there.

    Args:
        checkpoint: what is downloaded.
        console: where it is shown; by default stderr.
        quiet: whether nothing is shown.

    Yields:
        A function that takes what is being done and the number of bytes that are there.
    """
    console = console or Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _Lines(console, checkpoint.n_bytes)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("download", total=checkpoint.n_bytes, completed=checkpoint.n_present_bytes())
        yield lambda what, n_bytes: bars.update(task, description=sanitize(what), completed=n_bytes)


class _Lines:
    """A line whenever another tenth is there."""

    def __init__(self, console: Console, n_total: int) -> None:
        self._console, self._n_total = console, n_total
        self._shown = -1

    def __call__(self, what: str, n_bytes: int) -> None:
        tenths = 10 * n_bytes // max(1, self._n_total)
        if tenths > self._shown:
            self._shown = tenths
            text = f"download: {10 * tenths}% of {size_text(self._n_total)} ({sanitize(what)})"
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
