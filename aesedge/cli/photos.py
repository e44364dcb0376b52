"""Photos named on the command line: folders are expanded, failures are reported, and the other photos are done."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import typer

from aesedge.cli.exit_codes import FAILED, USAGE
from aesedge.cli.streams import OutputLostError, print_json
from aesedge.cli.terminal import print_error, status
from aesedge.engine.results import photo_fields
from aesedge.errors import AesedgeError, ImageError, UsageError
from aesedge.image.find_photos import photos_in
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from aesedge.cli.options import Printing
    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.engine.results import Outcome

STDIN = "-"
T = TypeVar("T")


class ErrorInfo(msgspec.Struct):
    """What went wrong."""

    type: str
    """Class of the error, one of those in ``aesedge.errors``."""
    message: str
    """One line: what is wrong and what to do."""


class PhotoError(msgspec.Struct, kw_only=True):
    """The line of ``--json`` for a photo, or a folder of photos, that could not be done."""

    photo: str
    photo_bytes: str | msgspec.UnsetType = msgspec.UNSET
    """The name's bytes, percent-encoded; only there where they are not UTF-8."""
    error: ErrorInfo


def error_info(error: AesedgeError) -> ErrorInfo:
    """Return an error in its printed form."""
    return ErrorInfo(type(error).__name__, " ".join(str(error).split()))


class Failures:
    """Reports photos that fail: one line each on stderr and, with ``--json``, one on stdout."""

    def __init__(self, printing: Printing) -> None:
        self._json = printing.json
        self.n_failed = 0

    def add(self, name: str, error: AesedgeError) -> None:
        """Report one photo, or one folder."""
        self.n_failed += 1
        if self._json:
            print_json(PhotoError(**photo_fields(name if name != STDIN else Stdin.name), error=error_info(error)))
        text, shown_name = str(error), sanitize(name)
        print_error(text if name in text or shown_name in text or name == STDIN else f"{shown_name}: {text}")

    def add_folder(self, error: OSError) -> None:
        """Report a folder that cannot be read."""
        self.add(os.fsdecode(error.filename or ""), _unreadable_folder(error))

    def exit_if_any(self) -> None:
        """End the command with exit code 1 if any photo failed.

        Raises:
            typer.Exit: at least one did.
        """
        if self.n_failed:
            raise typer.Exit(FAILED)


def find_photos(named: Sequence[str], failures: Failures) -> list[str]:
    """Return the named photos, with the contents of named folders in place of the folders.

    Raises:
        UsageError: stdin is named twice, or all that is named is folders without photos.
        typer.Exit: with code 1, there are no photos because folders cannot be read.
    """
    if list(named).count(STDIN) > 1:
        raise UsageError("- is named more than once, and stdin holds one image; name the others by their paths")
    names: list[str] = []
    empty: list[str] = []

    for name in named:
        if name == STDIN or not os.path.isdir(name):  # noqa: PTH112 - it raises nothing, whatever the name is
            names.append(name)
            continue
        n_unreadable = failures.n_failed
        found = [str(path) for path in photos_in(Path(name), failures.add_folder)]
        names += found
        if not found and failures.n_failed == n_unreadable:
            empty.append(name)
    if not names and not failures.n_failed:
        raise UsageError("; ".join(f"{name}: no photos in this folder" for name in empty))
    for name in empty:
        failures.add(name, ImageError(f"{sanitize(name)}: no photos in this folder"))
    if not names:
        failures.exit_if_any()
    return names


def sample_photos(named: Sequence[str] | None, printing: Printing) -> list[Path]:
    """Return the photos that a command measures on (``--photo``), folders expanded; an empty list if none are named.

    Raises:
        UsageError: a folder has no photos.
        typer.Exit: see :func:`find_photos`.
    """
    return [Path(name) for name in find_photos(named, Failures(printing))] if named else []


def readable_photos(named: Sequence[str], printing: Printing) -> list[Path]:
    """Return the named photos that can be read, for a command that needs all of them at once; report the others.

    Raises:
        UsageError: a folder has no photos.
        typer.Exit: with code 2, no photo can be read.
    """
    from aesedge.image import read_image

    failures, paths = Failures(printing), []
    for name in find_photos(named, failures):
        try:
            read_image(name, size_hint=1)
        except AesedgeError as error:
            failures.add(name, error)
        else:
            paths.append(Path(name))
    if not paths:
        raise typer.Exit(USAGE)
    return paths


def each_photo(
    outcomes: Iterator[Outcome[Any, T]],
    names: Sequence[str],
    show: Callable[[T], None],
    failures: Failures,
    *,
    quiet: bool,
    started: float | None = None,
) -> None:
    """Show the result of each photo in order and report the failures; then print how many were done.

    Args:
        outcomes: each photo's result, or its error; computed as it is taken.
        names: their names, in the same order.
        show: called with each result.
        failures: told of each error.
        quiet: print neither progress nor the count.
        started: when the command began, by ``time.perf_counter``; None prints the count only after an interruption.
    """
    n_done = 0
    try:
        for i, name in enumerate(names):
            counted = f"[{i + 1}/{len(names)}] " if len(names) > 1 else ""
            with status(f"{counted}looking at {name}", quiet=quiet):
                outcome = next(outcomes)
            if outcome.error is not None or outcome.value is None:
                failures.add(name, outcome.error or AesedgeError("nothing came of it"))
            else:
                show(outcome.value)
                n_done += 1
    except OutputLostError:  # the only thing to report then
        raise
    except BaseException:
        if not quiet:
            _print_count(n_done, len(names), started)
        raise
    if started is not None and len(names) > 1 and not quiet:
        _print_count(n_done, len(names), started)


def _print_count(n_done: int, n_named: int, started: float | None) -> None:
    count = f"{n_done} photos" if n_done == n_named else f"{n_done} of {n_named} photos"
    rate = ""
    if started is not None and n_done:
        rate = f", {60 * n_done / (time.perf_counter() - started):.0f} a minute, loading included"
    print(count + rate, file=sys.stderr, flush=True)


def look_at(model: Model, name: str) -> Photo:
    """Look at a photo by name, or at the image on stdin.

    Raises:
        ImageError: it cannot be read.
        UsageError: stdin has no image.
    """
    return model.look(source(name))


def source(name: str) -> str | Stdin:
    """Return what the engine opens for a name."""
    return Stdin() if name == STDIN else name


class Stdin(io.BytesIO):
    """The image on stdin, read when it is opened; results call it by its name here."""

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


def _unreadable_folder(error: OSError) -> ImageError:
    name = sanitize(os.fsdecode(error.filename or ""))
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{name}: there is no such folder or photo; check the path, and that its drive is connected")
    if isinstance(error, PermissionError):
        return ImageError(f"{name}: no permission to read this folder; change its permissions or copy it")
    return ImageError(f"{name}: this folder cannot be read: {error.strerror or error}; check the disk")
