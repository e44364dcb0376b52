"""Remember every edit of a run before it is made, so that a run can be undone after a crash too."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aesedge.errors import UsageError, XmpError
from aesedge.system.closing import Closing
from aesedge.system.paths import data_folder
from aesedge.xmp.property_names import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_APPLICATION_ID = 0x61457853
_VERSION = 1
_SCHEMA = """
CREATE TABLE run(id INTEGER PRIMARY KEY, began TEXT NOT NULL, command TEXT NOT NULL, undone TEXT);
CREATE TABLE edit(
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run(id), path BLOB NOT NULL,
  start INTEGER NOT NULL, removed BLOB, n_added INTEGER NOT NULL, before_sha BLOB, after_sha BLOB,
  written TEXT NOT NULL);
CREATE INDEX edit_of_run ON edit(run);
CREATE INDEX edit_of_path ON edit(path);
CREATE TABLE person(path BLOB NOT NULL, property TEXT NOT NULL, seen TEXT NOT NULL, PRIMARY KEY(path, property));
"""


class Written(msgspec.Struct, array_like=True, frozen=True):
    """One property of an edit."""

    uri: str
    local: str
    before: str | list[str] | None
    after: str | list[str] | None

    @property
    def name(self) -> Name:
        """The property."""
        return Name(self.uri, self.local)


@dataclass(frozen=True)
class FileEdit:
    """An edit of one file, as the bytes that it takes away and puts there."""

    path: Path
    start: int
    removed: bytes | None
    """None if there was no file before."""
    n_added: int
    before_sha: bytes | None
    after_sha: bytes
    written: tuple[Written, ...]

    @staticmethod
    def between(path: Path, before: bytes | None, after: bytes, written: Iterable[Written]) -> FileEdit:
        """Return the edit that makes one content of another."""
        if before is None:
            return FileEdit(path, 0, None, len(after), None, _sha(after), tuple(written))
        most = min(len(before), len(after))
        start = _longest(lambda n: before[:n] == after[:n], most)
        end = _longest(lambda n: before[len(before) - n :] == after[len(after) - n :], most - start)
        removed = before[start : len(before) - end]
        return FileEdit(path, start, removed, len(after) - end - start, _sha(before), _sha(after), tuple(written))

    def is_after(self, data: bytes | None) -> bool:
        """Whether a file is as the edit left it."""
        return data is not None and _sha(data) == self.after_sha

    def is_before(self, data: bytes | None) -> bool:
        """Whether a file is as it was before the edit."""
        return data is None if self.before_sha is None else data is not None and _sha(data) == self.before_sha

    def undone(self, data: bytes) -> bytes | None:
        """Return what was there before, None for no file.

        Raises:
            XmpError: the journal is damaged.
        """
        if self.removed is None:
            return None
        before = data[: self.start] + self.removed + data[self.start + self.n_added :]
        if _sha(before) != self.before_sha:
            raise XmpError(f"{self.path}: the journal does not lead back to what was there; the file stays as it is")
        return before


@dataclass(frozen=True)
class Run:
    """A run of a command that has edited files."""

    id: int
    began: str
    command: str
    undone: str | None
    n_files: int


def _longest(holds: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to ``most`` for which something holds that holds for all smaller ones."""
    return bisect_left(range(1, most + 1), True, key=lambda n: not holds(n))


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Journal(Closing):
    """All runs of this user.

    Args:
        path: the file; by default it is in the folder of the user's data.

    Raises:
        XmpError: it cannot be opened, or is of a newer version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = data_folder() / "journal.sqlite" if path is None else path
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise XmpError(f"{self._path}: the journal cannot be opened: {error}") from None
        try:
            # Full: an edit of a file that the disk has must never be younger than its entry here.
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON")
            self._create()
        except sqlite3.Error as error:
            self.close()
            raise XmpError(f"{self._path}: the journal cannot be opened: {error}; move it away") from None

    def _create(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            self.close()
            raise XmpError(f"{self._path}: was written by a newer aesedge; update this one")
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={_VERSION}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def begin_run(self, command: str) -> int:
        """Return the number of a new run."""
        return int(self._db.execute("INSERT INTO run(began, command) VALUES (?, ?)", (_now(), command)).lastrowid or 0)

    def record(self, run: int, edits: Iterable[FileEdit]) -> None:
        """Record edits; when this returns they are on the disk, and the files may be changed."""
        rows = [
            (
                run,
                os.fsencode(e.path),
                e.start,
                None if e.removed is None else zlib.compress(e.removed, 1),
                e.n_added,
                e.before_sha,
                e.after_sha,
                msgspec.json.encode(e.written).decode(),
            )
            for e in edits
        ]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT INTO edit(run, path, start, removed, n_added, before_sha, after_sha, written)"
            " VALUES (?,?,?,?,?,?,?,?)",
            rows,
        )
        self._db.execute("COMMIT")

    def runs(self) -> list[Run]:
        """Return all runs that have edited files, the oldest first."""
        rows = self._db.execute(
            "SELECT run.id, began, command, undone, count(DISTINCT path) FROM run JOIN edit ON edit.run = run.id"
            " GROUP BY run.id ORDER BY run.id"
        )
        return [Run(*row) for row in rows]

    def run_to_undo(self, wanted: int | None) -> Run:
        """Return a run by its number, or the last one that is not undone.

        Raises:
            UsageError: there is none, it is undone already, or later runs changed the same files.
        """
        runs = self.runs()
        found = [run for run in runs if (run.undone is None if wanted is None else run.id == wanted)]
        if not found:
            known = ", ".join(str(run.id) for run in runs if run.undone is None) or "none"
            raise UsageError(f"there is no run {wanted or ''} to undo; runs that can be undone: {known}")
        if found[-1].undone is not None:
            raise UsageError(f"run {wanted} was undone at {found[-1].undone}")
        later = self._db.execute(
            "SELECT DISTINCT b.run FROM edit a JOIN edit b ON a.path = b.path AND b.run > a.run"
            " JOIN run ON run.id = b.run WHERE a.run = ? AND run.undone IS NULL ORDER BY b.run DESC",
            (found[-1].id,),
        ).fetchall()
        if later:
            raise UsageError(f"run {later[0][0]} changed some of the same files later; undo it first")
        return found[-1]

    def edits(self, run: int) -> Iterator[FileEdit]:
        """Yield a run's edits, the last one first."""
        rows = self._db.execute(
            "SELECT path, start, removed, n_added, before_sha, after_sha, written FROM edit WHERE run = ?"
            " ORDER BY id DESC",
            (run,),
        ).fetchall()
        for path, start, removed, n_added, before_sha, after_sha, written in rows:
            yield FileEdit(
                Path(os.fsdecode(path)),
                start,
                None if removed is None else zlib.decompress(removed),
                n_added,
                before_sha,
                after_sha,
                tuple(msgspec.json.decode(written, type=list[Written])),
            )

    def mark_undone(self, run: int) -> None:
        """Remember that a run is undone."""
        self._db.execute("UPDATE run SET undone = ? WHERE id = ?", (_now(), run))

    def people(self) -> set[tuple[str, str]]:
        """Return files and properties in which a person's value was ever seen."""
        rows = self._db.execute("SELECT path, property FROM person")
        return {(os.fsdecode(path), name) for path, name in rows}

    def remember_people(self, seen: Iterable[tuple[str, str]]) -> None:
        """Remember files and properties with a person's value: they are the person's from now on."""
        rows = [(os.fsencode(path), name, _now()) for path, name in seen]
        if rows:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO person VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def forget_people(self, path: Path) -> None:
        """Forget what was seen in a file: a person's decision there is taken back."""
        self._db.execute("DELETE FROM person WHERE path = ?", (os.fsencode(path),))
