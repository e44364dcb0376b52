"""Photos as they are named on the command line, one after the other or several at once; knows no questions.

A photo that cannot be read is named on stderr, and the others are done.
"""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import typer

from aesedge.cli.exit_codes import SOME_FAILED, USAGE
from aesedge.cli.streams import OutputLostError
from aesedge.cli.terminal import print_error, status
from aesedge.errors import AesedgeError, ImageError, UsageError
from aesedge.image.find_photos import photos_in
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.engine.results import Outcome

STDIN = "-"
T = TypeVar("T")


def each_photo(
    outcomes: Iterator[Outcome[Any, T]],
    names: Sequence[str],
    show: Callable[[T], None],
    *,
    quiet: bool,
    started: float | None = None,
) -> int:
    """Show what comes of each photo, in order; at the end, or when it is stopped, how many were done.

    Args:
        outcomes: what came of each, or its error, made while it is taken.
        names: what they are called.
        show: called with what came of one.
        quiet: no progress, and no count.
        started: when the command began, by ``time.perf_counter``; None counts only where it was stopped.

    Returns:
        How many failed.
    """
    n_done = n_failed = 0
    try:
        for i, name in enumerate(names):
            counted = f"[{i + 1}/{len(names)}] " if len(names) > 1 else ""
            with status(f"{counted}looking at {name}", quiet=quiet):
                outcome = next(outcomes)
            if outcome.error is not None or outcome.value is None:
                n_failed += 1
                complain_of(name, outcome.error or AesedgeError("nothing came of it"))
            else:
                show(outcome.value)
                n_done += 1
    except OutputLostError:  # which is what is said then, and nothing else
        raise
    except BaseException:
        if not quiet:
            _count(n_done, len(names), started)
        raise
    if started is not None and len(names) > 1 and not quiet:
        _count(n_done, len(names), started)
    return n_failed


def _count(n_done: int, n_named: int, started: float | None) -> None:
    count = f"{n_done} photos" if n_done == n_named else f"{n_done} of {n_named} photos"
    rate = ""
    if started is not None and n_done:
        rate = f", {60 * n_done / (time.perf_counter() - started):.0f} a minute, loading included"
    print(count + rate, file=sys.stderr, flush=True)


def sources(names: Sequence[str]) -> Iterator[str | Stdin]:
    """Yield photos as they are named."""
    return (_source(name) for name in names)


def check_stdin_once(names: Sequence[str]) -> None:
    """See that stdin is named once at most.

    Raises:
        UsageError: it is named again, when all of it has been read.
    """
    if list(names).count(STDIN) > 1:
        raise UsageError("- is named more than once, and stdin holds one image; name the others by their paths")


def complain_of(name: str, error: AesedgeError) -> None:
    """Say on stderr what is wrong with a photo."""
    text, shown_name = str(error), sanitize(name)
    print_error(text if name in text or shown_name in text or name == STDIN else f"{shown_name}: {text}")


def look_at(model: Model, name: str) -> Photo:
    """Look at a photo by name, or at the image on stdin.

    Raises:
        ImageError: it cannot be read.
        UsageError: stdin has no image.
    """
    return model.look(_source(name))


def _source(name: str) -> str | Stdin:
    return Stdin() if name == STDIN else name


class Stdin(io.BytesIO):
    """The image that is sent to stdin, under the name by which results call it; read when it is looked at."""

    name = "stdin"

    def read(self, size: int | None = -1, /) -> bytes:
        """Return what was sent.

        Raises:
            UsageError: nothing was.
        """
        data = sys.stdin.buffer.read(-1 if size is None else size)
        if not data:
            raise UsageError("no photo: name one, or send an image to stdin; 'aesedge run --help' shows how")
        return data


class Found(NamedTuple):
    """What was named on a command line."""

    names: list[str]
    """Photos, those in folders included; none twice that was not named twice."""
    n_failed: int
    """Folders that have no photos or cannot be read, each of which was complained of."""


def find_photos(named: Sequence[str]) -> Found:
    """Return photos as named, and those in the folders that are named.

    Raises:
        UsageError: there are none at all, because the folders are empty.
        typer.Exit: with code 1, there are none, because folders cannot be read.
    """
    names: list[str] = []
    unread: list[OSError] = []
    empty: list[str] = []

    def complain_of_folder(error: OSError) -> None:
        unread.append(error)
        complain_of(os.fsdecode(error.filename or ""), _unreadable_folder(error))

    for name in named:
        if name == STDIN or not os.path.isdir(name):  # noqa: PTH112 - it raises nothing, whatever the name is
            names.append(name)
            continue
        n_unread = len(unread)
        found = [str(path) for path in photos_in(Path(name), complain_of_folder)]
        names += found
        if not found and len(unread) == n_unread:
            empty.append(name)
    if not names and not unread:
        raise UsageError("; ".join(f"{name}: no photos in this folder" for name in empty))
    for name in empty:
        print_error(f"{name}: no photos in this folder")
    if not names:
        raise typer.Exit(SOME_FAILED)
    return Found(names, len(unread) + len(empty))


def readable_photos(names: Sequence[str]) -> list[Path]:
    """Return those of some photos that can be read, for what needs all of them at once; the others are complained of.

    Raises:
        typer.Exit: with code 2, there are none, so nothing can be done.
    """
    from aesedge.image import read_image

    paths = []
    for name in names:
        try:
            read_image(name, size_hint=1)
        except AesedgeError as error:
            complain_of(name, error)
        else:
            paths.append(Path(name))
    if not paths:
        raise typer.Exit(USAGE)
    return paths


def _unreadable_folder(error: OSError) -> ImageError:
    name = sanitize(os.fsdecode(error.filename or ""))
    if isinstance(error, PermissionError):
        return ImageError(f"{name}: no permission to read this folder; change its permissions or copy it")
    return ImageError(f"{name}: this folder cannot be read: {error.strerror or error}; check the disk")
