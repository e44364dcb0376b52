"""Write to a catalogue: one process at a time, each judgement in a transaction of its own."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from aesedge.cache.locks import LockHeldError, exclusive_lock
from aesedge.errors import CatalogueBusyError, CatalogueError
from aesedge.library.catalogue import Catalogue, below
from aesedge.library.catalogue_file import connect, default_path, sqlite_errors_as_ours
from aesedge.library.records import CONTENT_COLUMNS, FRAME_COLUMNS
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from aesedge.library.records import Content, FileState, Frame, Judgement

_SYNC_S = 1.0
"""A power cut takes no more than what was judged within this time; a killed process loses nothing committed."""


def open_writer(path: Path | None = None) -> CatalogueWriter:
    """Open a catalogue for writing; its file is made if it is not there.

    Args:
        path: its file; None for the user's own, in the platform's data folder.

    Raises:
        CatalogueBusyError: another process writes to it.
        CatalogueError: it cannot be used.
    """
    path = path or default_path()
    with ExitStack() as stack:
        _hold_lock(path, stack)
        connection = connect(path, write=True)
        stack.callback(connection.close)
        return CatalogueWriter(path, connection, stack)


def _hold_lock(path: Path, stack: ExitStack) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(exclusive_lock(path.with_name(f"{path.name}.lock")))
    except LockHeldError:
        raise CatalogueBusyError(
            f"{sanitize(str(path))}: {_writer_of(path)} writes to this catalogue; wait until it has ended, or choose "
            "another --catalogue"
        ) from None
    except OSError as error:
        raise CatalogueError(
            f"{sanitize(str(path))}: cannot be written: {error.strerror or error}; choose another --catalogue"
        ) from None


def _writer_of(path: Path) -> str:
    """Return who holds the lock, in words."""
    try:
        connection = connect(path, write=False)
    except CatalogueError:
        return "another process"
    try:
        row = connection.execute("SELECT pid, host, began FROM writer").fetchone()
    finally:
        connection.close()
    if row is None:
        return "another process"
    pid, host, began = row
    where = "" if host == socket.gethostname() else f" on {sanitize(host)}"
    return f"process {pid}{where}, since {time.strftime('%H:%M', time.localtime(began))},"


class CatalogueWriter(Catalogue):
    """A catalogue that this process alone writes to; see :func:`open_writer`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, resources: ExitStack) -> None:
        super().__init__(path, connection)
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        self._is_wal = mode == "wal"
        self._synced_at = 0.0
        row = (os.getpid(), socket.gethostname(), time.time())
        self._change("INSERT OR REPLACE INTO writer(id, pid, host, began) VALUES(1, ?, ?, ?)", row)
        self._resources = resources.pop_all()

    def close(self) -> None:
        """Close the file and give the lock back. Closing twice does nothing."""
        with self._mutex:
            self._resources.close()

    def use_settings(self, settings: dict[str, Any]) -> int:
        """Return the number of settings, which are added if they are new."""
        text = json.dumps(settings, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        with self.transaction():
            self._execute(
                "INSERT INTO settings(key, json, used_at) VALUES(?, ?, ?) "
                "ON CONFLICT(key) DO UPDATE SET used_at = excluded.used_at",
                (key, text, time.time()),
            )
            row = self._row("SELECT id FROM settings WHERE key = ?", (key,))
        return int(row[0]) if row else 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is written in the block one change: all of it is kept, or nothing."""
        with self._mutex:
            if self._connection.in_transaction:
                yield
                return
            with sqlite_errors_as_ours(self.path):
                self._sync_now_and_then()
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                with sqlite_errors_as_ours(self.path):
                    self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite may have done it
            self._connection.execute("ROLLBACK")

    def _sync_now_and_then(self) -> None:
        """Have the next commit reach the disk, and with it those before, if the last that did is a second old."""
        if self._is_wal:
            is_due = time.monotonic() - self._synced_at >= _SYNC_S
            self._connection.execute(f"PRAGMA synchronous={'FULL' if is_due else 'NORMAL'}")
            if is_due:
                self._synced_at = time.monotonic()

    def add_content(self, digest: bytes, about: Content) -> int:
        """Return the number of the picture with these pixels, which is added if it is new."""
        with self.transaction():
            known = self.content_by_pixels(digest)
            if known is not None:
                return known
            marks = ", ".join("?" * len(CONTENT_COLUMNS))
            statement = f"INSERT INTO content({', '.join(CONTENT_COLUMNS)}) VALUES({marks})"
            number = self._execute(statement, astuple(about)).lastrowid
            if number is None:
                raise CatalogueError(f"{self.path}: gave no number to a picture; check the disk")
            self.add_pixels(digest, number)
        return number

    def add_pixels(self, digest: bytes, content: int) -> None:
        """Say that pixels, as a tower of another size reads them, are those of a known picture."""
        self._change("INSERT OR IGNORE INTO pixels(digest, content) VALUES(?, ?)", (digest, content))

    def add_file(
        self, path: str, state: FileState, content: int, *, tail: bytes | None, judged_as: str | None = None
    ) -> None:
        """Say which picture a file holds; an earlier failure of it is forgotten."""
        name, other = os.fsencode(path), None if judged_as is None else os.fsencode(judged_as)
        with self.transaction():
            self._execute(
                "INSERT OR REPLACE INTO file(path, size, mtime_ns, ctime_ns, tail, content, judged_as) "
                "VALUES(?, ?, ?, ?, ?, ?, ?)",
                (name, *state, tail, content, other),
            )
            self._execute("DELETE FROM failure WHERE path = ?", (name,))

    def add_judgement(self, content: int, settings: int, judgement: Judgement) -> bool:
        """Keep what a bundle said of a picture.

        Returns:
            Whether it is new: what the model has judged under these settings is judged, and stays.
        """
        with self.transaction():
            known = self.score_from(content, settings)
            if known == "model" or (known and judgement.score_from != "model"):
                return False
            values = (judgement.score, judgement.score_from, judgement.low, judgement.high, _json(judgement.result))
            texts = (judgement.critique, _json(judgement.report) if judgement.report else None, time.time())
            self._execute(
                "INSERT OR REPLACE INTO judgement(content, settings, score, score_from, low, high, result, critique, "
                "report, judged_at) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (content, settings, *values, *texts),
            )
            if judgement.mean_row:
                self.add_mean_row(content, settings, judgement.mean_row)
        return True

    def add_mean_row(self, content: int, settings: int, mean_row: bytes) -> None:
        """Keep the mean of a picture's image embeddings, float16."""
        self._change("INSERT OR IGNORE INTO mean_row VALUES(?, ?, ?)", (content, settings, mean_row))

    def add_texts(self, content: int, settings: int, critique: str | None, report: dict[str, Any] | None) -> None:
        """Keep texts about a picture that has a score; None leaves what is there."""
        values = (critique, _json(report) if report else None, content, settings)
        self._change(
            "UPDATE judgement SET critique = coalesce(?, critique), report = coalesce(?, report) "
            "WHERE content = ? AND settings = ?",
            values,
        )

    def add_failure(self, path: str, state: FileState, kind: str, message: str) -> None:
        """Keep why a file could not be judged."""
        values = (os.fsencode(path), *state, kind, sanitize(message), time.time())
        self._change("INSERT OR REPLACE INTO failure VALUES(?, ?, ?, ?, ?, ?, ?)", values)

    def mark_gone(self, folder: str, found: Iterable[str]) -> int:
        """Note which known files of a folder are not there any more, and which are there again.

        Args:
            folder: the folder that was searched without an error.
            found: all photos in it.

        Returns:
            How many are away whose picture is nowhere else.
        """
        where, values = below(folder)
        there = set(map(os.fsencode, found))
        known = list(self._rows(f"SELECT f.path, f.gone_at IS NULL FROM file f WHERE {where}", values))
        changed = [
            (None if path in there else time.time(), path) for path, was_there in known if was_there != (path in there)
        ]
        with self.transaction(), sqlite_errors_as_ours(self.path):
            self._connection.executemany("UPDATE file SET gone_at = ? WHERE path = ?", changed)
        if all(path in there for path, _ in known):
            return 0
        row = self._row(
            f"SELECT count(*) FROM file f WHERE gone_at IS NOT NULL AND {where} AND NOT EXISTS "
            "(SELECT 1 FROM file g WHERE g.content = f.content AND g.gone_at IS NULL)",
            values,
        )
        return int(row[0]) if row else 0

    def set_sharpness(self, content: int, sharpness: float) -> None:
        """Keep how sharp the sharpest parts of a picture are."""
        self._change("UPDATE content SET sharpness = ? WHERE id = ?", (sharpness, content))

    def set_frames(self, frames: Mapping[int, Frame]) -> None:
        """Replace all bursts: picture to its place in one."""
        with self.transaction():
            self._execute("DELETE FROM burst")
            with sqlite_errors_as_ours(self.path):
                rows = ((content, *astuple(frame)) for content, frame in frames.items())
                marks = ", ".join("?" * (1 + len(FRAME_COLUMNS)))
                self._connection.executemany(
                    f"INSERT INTO burst(content, {', '.join(FRAME_COLUMNS)}) VALUES({marks})", rows
                )

    def run_attached(self, part: Path, statements: str) -> int:
        """Run statements on this catalogue as ``main`` and another one as ``part``; see :mod:`aesedge.library.merging`.

        Returns:
            How many judgements the other one has.
        """
        with self._mutex:
            self._execute("ATTACH DATABASE ? AS part", (str(part),))
            try:
                with self.transaction():
                    for name in ("settings_of", "content_of"):
                        self._execute(f"CREATE TEMP TABLE {name}(theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL)")
                    self._execute("CREATE TEMP TABLE offset AS SELECT coalesce(max(id), 0) AS n FROM main.content")
                    for statement in statements.split(";"):
                        self._execute(statement)
                    for name in ("settings_of", "content_of", "offset"):
                        self._execute(f"DROP TABLE temp.{name}")
                row = self._row("SELECT count(*) FROM part.judgement")
            finally:
                self._execute("DETACH DATABASE part")
        return int(row[0]) if row else 0

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with self._mutex, sqlite_errors_as_ours(self.path):
            return self._connection.execute(statement, values)

    def _change(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self.transaction():
            self._execute(statement, values)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
