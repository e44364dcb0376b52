"""Keep the result of every item of an evaluation as a line of JSON, so that a run that was stopped can be resumed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from aesedge.errors import UsageError
from aesedge.system.closing import Closing
from aesedge.system.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = "settings"
T = TypeVar("T")


class ItemLog(Closing, Generic[T]):
    """A file of one JSON line per item, under a first line that says what all of them were made with.

    Args:
        path: the file; its folder is made. None keeps everything in memory alone.
        settings: what changes results. A file with other settings is not continued.
        kind: type of the records.

    Raises:
        UsageError: the file is no log, or one with other settings.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], kind: type[T]) -> None:
        self.done: dict[str, T] = {}
        """Key of an item to its record, those of earlier runs included."""
        self._decoder: Any = msgspec.json.Decoder(tuple[str, kind])  # type: ignore[valid-type]
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        n_bytes = self._read(path, settings) if path.exists() else 0
        self._file = path.open("r+b" if n_bytes else "wb")
        self._file.truncate(n_bytes)
        self._file.seek(0, os.SEEK_END)
        if not n_bytes:
            self._write({_HEADER: settings})

    def _read(self, path: Path, settings: dict[str, Any]) -> int:
        """Read the finished lines; return how many bytes they take. A line that was cut off is made again."""
        with open_regular(path) as file:
            data = file.read()
        end = data.rfind(b"\n") + 1
        header, *lines = data[:end].splitlines() or [b"{}"]
        try:
            found = msgspec.json.decode(header, type=dict[str, Any]).get(_HEADER)
            if end and found is None:
                raise UsageError(f"{path}: is no log of an evaluation; choose another --out")
            if end and found != msgspec.json.decode(msgspec.json.encode(settings)):
                raise UsageError(
                    f"{path}: was made with other settings ({_changed(found, settings)}); choose another --out"
                )
            for line in lines:
                key, record = self._decoder.decode(line)
                self.done[key] = record
        except msgspec.DecodeError as error:
            raise UsageError(f"{path}: is no log of an evaluation ({error}); choose another --out") from None
        return end

    def add(self, key: str, record: T) -> None:
        """Keep the record of an item; it is on its way to the disk when this returns."""
        self.done[key] = record
        self._write((key, record))

    def _write(self, value: Any) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(value) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file. Closing twice does nothing."""
        if self._file is not None:
            self._file.close()


def _changed(found: Any, settings: dict[str, Any]) -> str:
    """Return the names of the settings that differ."""
    before = found if isinstance(found, dict) else {}
    return ", ".join(sorted(k for k in before.keys() | settings.keys() if before.get(k) != settings.get(k)))
