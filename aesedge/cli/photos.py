"""Photos as they are named on the command line, one after the other or several at once; knows no questions.

A photo that cannot be read is named on stderr, and the others are done.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from aesedge.cli.exit_codes import SOME_FAILED
from aesedge.cli.terminal import complain, status
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aesedge.engine import Model
    from aesedge.photo import Photo

STDIN = "-"
T = TypeVar("T")


def each_photo(
    outcomes: Iterator[tuple[object, T | AesedgeError]], names: Sequence[str], show: Callable[[T], None], *, quiet: bool
) -> None:
    """Show what comes of each photo, in order.

    Args:
        outcomes: what came of each, or its error, made while it is taken.
        names: what they are called.
        show: called with what came of one.
        quiet: no progress.

    Raises:
        typer.Exit: with code 1 at the end, if some failed.
    """
    n_failed = 0
    for n_done, name in enumerate(names):
        counted = f"[{n_done + 1}/{len(names)}] " if len(names) > 1 else ""
        with status(f"{counted}looking at {name}", quiet=quiet):
            _, outcome = next(outcomes)
        if isinstance(outcome, AesedgeError):
            n_failed += 1
            complain_of(name, outcome)
        else:
            show(outcome)
    if n_failed:
        raise typer.Exit(SOME_FAILED)


def sources(names: Sequence[str]) -> Iterator[str | Stdin]:
    """Yield photos as they are named."""
    return (_source(name) for name in names)


def complain_of(name: str, error: AesedgeError) -> None:
    """Say on stderr what is wrong with a photo."""
    text = str(error)
    complain(text if name in text or name == STDIN else f"{name}: {text}")


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


def expand_folders(names: list[str]) -> Iterator[str]:
    """Yield photos as named, and those in the folders that are named.

    Raises:
        UsageError: a folder has no photos.
    """
    from aesedge.folder import photos_in

    for name in names:
        if name == STDIN or not Path(name).is_dir():
            yield name
            continue
        found = [str(path) for path in photos_in(Path(name))]
        if not found:
            raise UsageError(f"{name}: no photos in this folder")
        yield from found
