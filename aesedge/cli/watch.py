"""The command ``watch``: judge photos as they come."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.exit_codes import FAILED
from aesedge.cli.library_options import LIBRARY, CatalogueFile, Folders, WhatIsWritten
from aesedge.cli.options import Loading, Printing, WritingOptions, seconds, with_options
from aesedge.cli.rate import make_rater
from aesedge.errors import CatalogueBusyError, CatalogueError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.cli.library_progress import LibraryProgress
    from aesedge.library.arrivals import Arrivals
    from aesedge.library.rating import Rater

_LOOK_PAUSES = 20
"""Between two looks passes as many times what a look takes."""


@with_options(json="Print one JSON object per photo that is judged, or fails, and line.")
def watch(
    folders: Folders,
    once: Annotated[
        bool,
        typer.Option("--once", help="Judge what is complete now, and end; for cron.", rich_help_panel=LIBRARY),
    ] = False,
    interval: Annotated[str, typer.Option(help="Time between two looks.", rich_help_panel=LIBRARY)] = "2s",
    catalogue: CatalogueFile = None,
    written: WhatIsWritten = WhatIsWritten(),
    loading: Loading = Loading(),
    writing_options: WritingOptions = WritingOptions(),
    printing: Printing = Printing(),
) -> None:
    """Judge photos as they come, as rate does; Ctrl-C ends it.

    The folders are looked through again and again, so network drives and tethered cameras work. A photo counts when its
    file has not changed for a second; a RAW waits five seconds for a JPEG of its name.
    """
    from aesedge.cli.library_progress import LibraryProgress
    from aesedge.library.arrivals import STILL_S, Arrivals

    pause_s = seconds(interval, "--interval") or 0.0
    if not 0.1 <= pause_s <= 86_400:
        raise UsageError(f"--interval {interval!r}: write 0.1s to 1440min")
    progress = LibraryProgress(printing)
    arrivals = Arrivals(waits_for_pairs=not once)
    with make_rater(loading, written, writing_options, progress) as rater:
        if once:
            _look(catalogue, folders, rater, arrivals, progress)
            time.sleep(STILL_S)
            _look(catalogue, folders, rater, arrivals, progress)
            progress.failures.exit_if_any()
            return
        if not printing.quiet:
            print(f"watching {', '.join(folders)}; Ctrl-C ends it", file=sys.stderr, flush=True)
        while True:
            took = _look_if_free(catalogue, folders, rater, arrivals, progress)
            time.sleep(max(pause_s, _LOOK_PAUSES * took))


def _look_if_free(
    catalogue: Path | None, folders: list[str], rater: Rater, arrivals: Arrivals, progress: LibraryProgress
) -> float:
    """Look once; return how long it took to look. While another process writes to the catalogue, wait."""
    try:
        return _look(catalogue, folders, rater, arrivals, progress)
    except CatalogueBusyError as error:
        progress.tell_once(str(error))
        return 0.0
    except CatalogueError as error:
        progress.stop(str(error))
        raise typer.Exit(FAILED) from None


def _look(
    catalogue: Path | None, folders: list[str], rater: Rater, arrivals: Arrivals, progress: LibraryProgress
) -> float:
    from aesedge.library.catalogue_writer import open_writer

    began = time.monotonic()
    arrivals.begin_look()
    with open_writer(catalogue) as file:
        progress.begin_round()
        progress.follow(rater.rate(file, folders, arrivals.is_complete))
    progress.end_round()
    return progress.surveyed_at - began
