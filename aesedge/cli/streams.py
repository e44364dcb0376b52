"""stdin, stdout and stderr in any state: closed, full, without a reader, in any encoding."""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from aesedge.system.json_line import json_line, safe_json
from aesedge.system.termination import end_by

if TYPE_CHECKING:
    from collections.abc import Iterator

_POSIX = os.name == "posix"


class OutputLostError(Exception):
    """stdout takes no more; :func:`output_problem` says why."""


class _Output(io.FileIO):
    """A standard stream that remembers the first system error, and discards everything written after it."""

    def __init__(self, fd: int, *, raises: bool) -> None:
        super().__init__(fd, "wb", closefd=False)
        self.error: OSError | None = None
        self._raises = raises

    def write(self, data: Any, /) -> int:
        while self.error is None:
            try:
                n_written = super().write(data)
            except OSError as error:
                self.error = error
                if self._raises:
                    raise OutputLostError from None
            else:
                if n_written is not None:
                    return int(n_written)
                select.select([], [self.fileno()], [])  # another program made the terminal non-blocking
        return memoryview(data).nbytes


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make the process's own streams safe to use inside the block; streams that a caller put in their place stay.

    A stream that is closed becomes the null device. Printing raises OutputLostError when stdout takes no more. When
    its reader has gone away, or that of stderr, the process ends after the block by SIGPIPE, as other programs do.
    """
    _open_closed_streams()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper) and stream in {sys.__stdout__, sys.__stderr__}:
            stream.reconfigure(errors="backslashreplace")
    if not _POSIX or sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        yield
        return
    # stderr raises nothing: bars are drawn from within callbacks of native code, which an exception does not leave.
    raw = _Output(before[0].fileno(), raises=True), _Output(before[1].fileno(), raises=False)
    sys.stdout, sys.stderr = (_text(file, old) for file, old in zip(raw, before, strict=True))
    try:
        yield
    finally:
        with suppress(OutputLostError):
            sys.stdout.flush()
        sys.stdout, sys.stderr = before
        if any(isinstance(file.error, BrokenPipeError) for file in raw):
            end_by(signal.SIGPIPE)


def _text(file: _Output, like: TextIO) -> io.TextIOWrapper:
    """Return a text stream like the one that Python made of the same file."""
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=like.encoding,
        errors="backslashreplace",
        newline="\n",
        line_buffering=like.line_buffering if isinstance(like, io.TextIOWrapper) else True,
    )


def output_problem(stream: TextIO) -> OSError | None:
    """Return why a standard stream took no more, or None."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Output) else None


def print_json(value: object) -> None:
    """Print a value as one line of JSON: in UTF-8, or in ASCII if stdout has another encoding."""
    print_json_lines(json_line(value))


def print_json_lines(text: str) -> None:
    """Print lines that are JSON already, as :func:`print_json` does."""
    out = sys.stdout
    is_utf8 = codecs.lookup(out.encoding or "ascii").name == "utf-8"
    safe = safe_json(text, ascii_only=not is_utf8)
    buffer = getattr(out, "buffer", None)
    if buffer is None:  # a caller's own stream of text
        print(safe, flush=True)
        return
    out.flush()
    buffer.write(safe.encode() + b"\n")
    buffer.flush()


def _open_closed_streams() -> None:
    """Give the null device to standard streams that are closed, before a file that is opened gets their number."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
        stream = open(os.devnull, "r" if fd == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
