"""What a person sees: lines, bars, streamed words, remarks on stderr; knows terminals, not photos or models."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

_BAR_WIDTH = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_CLEAR_LINE = "\r\x1b[2K"


def is_colored(stream: TextIO) -> bool:
    """Whether a stream is a terminal that wants colour (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str) -> str:
    """Return text in bold, where stdout takes it."""
    return f"\x1b[1m{text}\x1b[0m" if is_colored(sys.stdout) else text


def dim(text: str) -> str:
    """Return text in a weaker colour, where stdout takes it."""
    return f"\x1b[2m{text}\x1b[0m" if is_colored(sys.stdout) else text


def bar(fraction: float) -> str:
    """Return a bar for 0..1, eight steps a character, or plain signs where the terminal knows no Unicode."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    if encoding != "utf8":
        return "#" * round(fraction * _BAR_WIDTH)
    whole, part = divmod(round(fraction * _BAR_WIDTH * 8), 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")


def shown(text: str) -> str:
    """Return text without control characters: neither a model nor a file name may steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def complain(text: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    over = _CLEAR_LINE if sys.stderr.isatty() else ""  # what is being done may be shown there
    print(f"{over}aesedge: {shown(' '.join(text.split()))}", file=sys.stderr, flush=True)


def show_remarks(*, quiet: bool) -> None:
    """Send the package's warnings to stderr, in one line each."""
    log = logging.getLogger("aesedge")
    log.handlers = [_Remarks()]
    log.setLevel(logging.ERROR if quiet else logging.WARNING)
    log.propagate = False


class _Remarks(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


@contextlib.contextmanager
def status(text: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show on stderr what is being done, and how much of it is; the line goes away at the end.

    Yields:
        A function that takes the fraction done, 0..1.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _fraction: None
        return

    def show(fraction: float | None) -> None:
        width = shutil.get_terminal_size().columns
        done = "" if fraction is None else f" {fraction:4.0%} {bar(fraction)}"
        sys.stderr.write(_CLEAR_LINE + (text + done)[: width - 1])
        sys.stderr.flush()

    show(None)
    try:
        yield show
    finally:
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()


class WordWriter:
    """Writes streamed text to stdout as it comes; on a terminal no word is cut at the end of a line."""

    def __init__(self, indent: str = "") -> None:
        self._indent = indent
        self._width = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else 0
        self._column = 0
        self._word = ""

    def write(self, piece: str) -> None:
        """Write a piece of text; the beginning of a word waits for its end."""
        piece = shown(piece)
        if not self._width:
            sys.stdout.write(piece)
            sys.stdout.flush()
            return
        for character in piece:
            if character.isspace():
                self._put_word()
                if character == "\n":
                    self._end_line()
            else:
                self._word += character
        sys.stdout.flush()

    def _end_line(self) -> None:
        sys.stdout.write("\n")
        self._column = 0

    def _put_word(self) -> None:
        if not self._word:
            return
        if self._column and self._column + 1 + len(self._word) > self._width:
            self._end_line()
        space = " " if self._column else self._indent
        sys.stdout.write(space + self._word)
        self._column += len(space) + len(self._word)
        self._word = ""

    def close(self) -> None:
        """Write what is left and end the line."""
        self._put_word()
        sys.stdout.write("\n")
        sys.stdout.flush()


def table(rows: list[list[str]], *, header: list[str] | None = None) -> str:
    """Return rows as aligned columns; numbers, recognised by their first character, stand to the right."""
    everything = ([header] if header else []) + rows
    widths = [max(len(row[i]) for row in everything) for i in range(len(everything[0]))]
    numeric = [all(row[i][:1].isdigit() or row[i] in {"", "-"} for row in rows) for i in range(len(widths))]

    def line(row: list[str]) -> str:
        cells = (cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric, strict=True))
        return "  ".join(cells).rstrip()

    lines = [bold(line(header))] if header else []
    return "\n".join(lines + [line(row) for row in rows])


def size(n_bytes: int) -> str:
    """Return a size as people read it: ``24.1 MB``."""
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
