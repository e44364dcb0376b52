"""Tables of VLMEvalKit: a question on each row, with its picture as base64.

Source: VLMEvalKit, ``vlmeval/dataset/image_base.py``. A picture that several rows share stands in one of them; the
others have that row's index instead.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.system.error_text import error_text
from aesedge.system.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_LONGEST_INDEX = 64  # VLMEvalKit's limit too: no picture is that short
_MOST_PICTURE = (1 << 31) - 1  # characters; what csv takes on every system
_MOST_HEADER = 1 << 16


@dataclass(frozen=True)
class TableRow:
    """A row without its picture."""

    line: int
    """Last line of the file that it stands on."""
    name: str
    """Its index."""
    image: str
    """Name of its picture for :meth:`VLMEvalKitTable.picture`; empty if it has none that can be read."""
    cells: dict[str, str]


class VLMEvalKitTable:
    """A table on disk. AesBench's has 3 GB of pictures: one at a time is in memory.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        """Picture to the number of its row."""
        self._reader = _read(path)
        self._next = 0

    def rows(self) -> list[TableRow]:
        """Return every row.

        Raises:
            UsageError: the file is no such table.
        """
        by_digest: dict[bytes, str] = {}
        sent_by_name: dict[str, str] = {}
        rows = []
        for number, (line, cells) in enumerate(_read(self._path)):
            name, sent = cells.get("index") or str(number), cells.pop("image", "").strip()
            image = ""
            if len(sent) <= _LONGEST_INDEX:
                image = sent
            elif data := _decoded(sent):
                image = by_digest.setdefault(hashlib.sha256(data).digest(), name)
                self._numbers.setdefault(image, number)
            sent_by_name.setdefault(name, image)
            rows.append(TableRow(line, name, image, cells))
        return [
            replace(row, image=image if image in self._numbers else "")
            for row in rows
            for image in [row.image if row.image in self._numbers else sent_by_name.get(row.image, "")]
        ]

    def picture(self, image: str) -> bytes:
        """Return the file of a picture. In the order of the table, all of them take one reading."""
        number = self._numbers[image]
        if number < self._next:
            self._reader.close()
            self._reader, self._next = _read(self._path), 0
        for _, cells in self._reader:
            self._next += 1
            if self._next > number:
                return _decoded(cells["image"])
        raise UsageError(f"{self._path}: changed while it was read; start again")


def has_questions(path: Path) -> bool:
    """Return whether a file is such a table, by its first line."""
    try:
        with open_regular(path) as file:
            return b"question" in file.readline(_MOST_HEADER).lower().split()
    except OSError:
        return False


def _read(path: Path) -> Generator[tuple[int, dict[str, str]], None, None]:
    """Yield every row with the number of its last line."""
    csv.field_size_limit(_MOST_PICTURE)
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, delimiter="\t", restval="")
            for row in reader:
                row.pop(None, None)  # cells beyond the header
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as VLMEvalKit's table: {error_text(error)}") from None


def _decoded(text: str) -> bytes:
    """Return the bytes of base64; empty if it is damaged."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
