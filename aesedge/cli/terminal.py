"""Terminal output: tables, bars, streamed words, progress and errors."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from aesedge.system.sanitize import sanitize

_BAR_WIDTH = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_CLEAR_LINE = "\r\x1b[2K"


def takes_escapes(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be cleared."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_colored(stream: TextIO) -> bool:
    """Whether a stream is a terminal that wants colour (https://no-color.org)."""
    return takes_escapes(stream) and not os.environ.get("NO_COLOR")


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
    """Return one line of foreign text as stdout shows it, so that its width can be known."""
    encoding = sys.stdout.encoding or "ascii"
    return sanitize(text).encode(encoding, "backslashreplace").decode(encoding)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return text with spaces around it up to a width in columns; a Chinese character takes two."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def print_error(text: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    over = _CLEAR_LINE if takes_escapes(sys.stderr) else ""  # what is being done may be shown there
    print(f"{over}aesedge: {sanitize(' '.join(text.split()))}", file=sys.stderr, flush=True)


def show_remarks(*, quiet: bool) -> None:
    """Send the package's warnings to stderr, in one line each."""
    log = logging.getLogger("aesedge")
    log.handlers = [_Remarks()]
    log.setLevel(logging.ERROR if quiet else logging.WARNING)
    log.propagate = False


class _Remarks(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_error(record.getMessage())


@contextlib.contextmanager
def status(text: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show on stderr what is being done, and how much of it is; the line goes away at the end.

    Yields:
        A function that takes the fraction done, 0..1.
    """
    if quiet or not takes_escapes(sys.stderr):
        yield lambda _fraction: None
        return

    line = sanitize(text)

    def show(fraction: float | None) -> None:
        width = shutil.get_terminal_size().columns - 1
        done = "" if fraction is None else f" {fraction:4.0%} {bar(fraction)}"
        room = max(0, width - cell_len(done))  # a long name is shortened, so that the bar is seen
        name = line if cell_len(line) <= room else set_cell_size(line, room)
        sys.stderr.write(_CLEAR_LINE + set_cell_size(name + done, min(width, cell_len(name + done))))
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
        piece = sanitize(piece.replace("\r", ""), lines=True)
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
        n_columns = cell_len(self._word)
        if self._column and self._column + 1 + n_columns > self._width:
            self._end_line()
        space = " " if self._column else self._indent
        sys.stdout.write(space + self._word)
        self._column += len(space) + n_columns
        self._word = ""

    def close(self) -> None:
        """Write what is left and end the line."""
        self._put_word()
        sys.stdout.write("\n")
        sys.stdout.flush()


def table(rows: list[list[str]], *, header: list[str] | None = None) -> str:
    """Return rows as aligned columns; numbers, recognised by their first character, stand to the right.

    Cells are foreign text: a row stays one line, whatever is in it.
    """
    rows = [[shown(cell) for cell in row] for row in rows]
    everything = ([[shown(cell) for cell in header]] if header else []) + rows
    widths = [max(cell_len(row[i]) for row in everything) for i in range(len(everything[0]))]
    numeric = [all(row[i][:1].isdigit() or row[i] in {"", "-"} for row in rows) for i in range(len(widths))]

    def line(row: list[str]) -> str:
        cells = (padded(cell, w, right=right) for cell, w, right in zip(row, widths, numeric, strict=True))
        return "  ".join(cells).rstrip()

    lines = [line(row) for row in everything]
    return "\n".join([bold(text) if header and i == 0 else text for i, text in enumerate(lines)])
