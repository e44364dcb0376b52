"""Display the steps of a long job on the terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator


class StepDisplay:
    """Shows each step: a bar on a terminal, a line when it is done elsewhere."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console, self._bars = console, bars
        self._tasks: dict[str, TaskID] = {}
        self._done: set[str] = set()

    def __call__(self, step: str, share: float, detail: str = "") -> None:
        """Implement :class:`.progress.OnProgress`."""
        if not self._console.is_terminal:
            if share >= 1 and step not in self._done:
                self._done.add(step)
                self._console.print(f"{step}: done", highlight=False, markup=False)
            return
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0, detail="")
        self._bars.update(self._tasks[step], completed=share, detail=sanitize(detail) if share < 1 else "")


@contextmanager
def display_steps(*, quiet: bool = False) -> Iterator[StepDisplay]:
    """Show steps on stderr while the block runs, or nothing."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[detail]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield StepDisplay(console, bars)
