"""Open a catalogue's SQLite file: one writer, readers anytime, on local and on network disks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from aesedge.errors import CatalogueError
from aesedge.library.schema import APPLICATION_ID, MIGRATIONS, VERSION
from aesedge.system.paths import data_folder
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "library.aesedge"
_BUSY_S = 10.0
_NETWORK = (
    *("nfs", "cifs", "smb", "9p", "afpfs", "webdav", "davfs", "sshfs", "rclone", "ncpfs", "afs", "ceph", "gluster"),
    *("lustre", "vboxsf", "vmhgfs", "prl_fs", "drvfs", "virtiofs", "fuse.", "fuseblk"),
)
"""Beginnings of the names of file systems that may be shared with other machines, where WAL is not safe: readers and
the writer share memory (https://sqlite.org/wal.html)."""


def default_path() -> Path:
    """Return where the user's catalogue is unless another one is named."""
    return data_folder() / NAME


def is_network_disk(path: Path) -> bool:
    """Return whether a file lies, or would lie, on a disk that other machines may use too; True where it is unknown."""
    real = Path(os.path.realpath(path))
    if sys.platform == "win32" and str(real).startswith("\\\\"):
        return True
    best, found = -1, ""
    try:
        parts = psutil.disk_partitions(all=True)
    except (OSError, RuntimeError):
        return True
    for part in parts:
        mount = Path(part.mountpoint)
        if (real == mount or mount in real.parents) and len(mount.parts) >= best:
            best, found = len(mount.parts), f"{part.fstype},{part.opts if sys.platform == 'win32' else ''}".lower()
    return found.startswith(_NETWORK) or "remote" in found or best < 0


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a catalogue, and bring it to this schema version.

    Args:
        path: its file; it and its folder are made if it is written.
        write: whether it is written. Then the caller holds the writer's lock.

    Raises:
        CatalogueError: it is no catalogue, a newer one, damaged, or cannot be opened.
    """
    with sqlite_errors_as_ours(path):
        if write:
            connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
        else:
            if not path.exists():
                raise CatalogueError(f"{_shown(path)}: there is no catalogue yet; 'aesedge rate FOLDER' makes one")
            uri = f"{path.absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
        try:
            _check_kind(connection, path, write=write)
            if write:
                _set_journal(connection, path)
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_kind(connection: sqlite3.Connection, path: Path, *, write: bool) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (n_tables or not write):
        raise CatalogueError(f"{_shown(path)}: is a database, but no catalogue of aesedge; choose another --catalogue")
    if version > VERSION:
        raise CatalogueError(
            f"{_shown(path)}: is a catalogue of version {version}, this aesedge reads up to {VERSION}; update aesedge"
        )
    if version < VERSION and not write:
        raise CatalogueError(
            f"{_shown(path)}: is a catalogue of version {version}; 'aesedge rate' brings it up to date"
        )


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Use the write-ahead log where the disk bears it; else SQLite's rollback journal."""
    if not is_network_disk(path):
        with contextlib.suppress(sqlite3.OperationalError):  # a disk without shared memory says so here
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode == "wal":
                connection.execute("BEGIN IMMEDIATE").close()
                connection.execute("ROLLBACK")
                connection.execute("PRAGMA synchronous=NORMAL")
                return
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=FULL")


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:]:
            for statement in _statements(statements):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _statements(text: str) -> Iterator[str]:
    """Yield single statements: ``executescript`` would commit before each."""
    statement = ""
    for line in text.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def sqlite_errors_as_ours(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a CatalogueError of one line that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise CatalogueError(f"{_shown(path)}: {_advice(error)}") from error
    except OSError as error:
        raise CatalogueError(f"{_shown(path)}: cannot be written: {error.strerror or error}") from error


def _advice(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "the disk is full; free some space and start again: nothing that was reported is lost"
    if "not a database" in text or "malformed" in text:
        return f"is damaged or no catalogue ({text}); restore it from a backup, or move it away to begin a new one"
    if "locked" in text or "busy" in text:
        return "another program keeps it locked; end it and try again"
    if any(word in text for word in ("readonly", "unable to open", "disk I/O")):
        return f"cannot be opened ({text}); check the folder and its permissions, or choose another --catalogue"
    return f"cannot be used: {text}; check the disk, or choose another --catalogue"


def _shown(path: Path) -> str:
    return sanitize(str(path))
