"""What the commands of ``eval`` share: tables, problems that cost a line each, reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.exit_codes import FAILED
from aesedge.cli.photos import Failures
from aesedge.cli.terminal import print_error
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.cli.options import Printing
    from aesedge.eval.ratings_table import RatingsTable

ReportFile = Annotated[
    Path | None, typer.Option(help="Write the figures with versions and hashes to this Markdown file.")
]


@dataclass(kw_only=True)
class TableOptions:
    """How a table of ratings is read."""

    images: Annotated[
        Path | None, typer.Option(help="Where the pictures are.", show_default="beside the table, or in images there")
    ] = None
    image_column: Annotated[str | None, typer.Option(help="Column of the pictures.", show_default="found")] = None
    score_column: Annotated[str | None, typer.Option(help="Column of the scores.", show_default="found")] = None
    scale: Annotated[
        str | None, typer.Option(help="What the scores are out of, as LOW:HIGH.", show_default="found")
    ] = None

    def read(self, table: Path) -> RatingsTable:
        """Read a table.

        Raises:
            UsageError: see :func:`aesedge.eval.ratings_table.read_ratings`; or ``--scale`` is none.
        """
        from aesedge.eval.ratings_table import read_ratings

        return read_ratings(
            table,
            images=self.images,
            image_column=self.image_column,
            score_column=self.score_column,
            scale=_scale(self.scale),
        )


class Problems:
    """Rows, questions and pictures that cannot be used: a line of stderr each, once, and the exit code."""

    def __init__(self, lines: Sequence[str], printing: Printing) -> None:
        for line in lines:
            print_error(line)
        self._failures = Failures(printing)
        self._names: set[str] = set()
        self._some = bool(lines)

    def add(self, name: str, error: AesedgeError) -> None:
        """Report a picture that cannot be used."""
        if name not in self._names:
            self._names.add(name)
            self._failures.add(name, error)

    def exit_if_any(self) -> None:
        """End with exit code 1 where there was one."""
        if self._some or self._names:
            raise typer.Exit(FAILED)


def _scale(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(f"--scale {text}: write the lowest and the highest score, as in 1:5")
    return low, high
