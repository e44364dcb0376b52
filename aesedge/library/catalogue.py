"""Read what is known of photos from a catalogue, one SQLite file, while another process may write to it.

    with open_catalogue() as catalogue:                      # the user's own; or open_catalogue(Path("x.aesedge"))
        for photo in catalogue.judgements("/photos/2026"):   # of one folder and those below it, by path
            print(photo.path, photo.score, photo.attributes, photo.frame)

Readers need no lock and may come and go while :mod:`aesedge.library.catalogue_writer` writes.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.library.catalogue_file import connect, default_path, sqlite_errors_as_ours
from aesedge.library.records import (
    CONTENT_COLUMNS,
    FRAME_COLUMNS,
    Content,
    FileState,
    Frame,
    JudgedPhoto,
    KnownFailure,
    KnownFile,
    Shot,
)
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt


def open_catalogue(path: Path | None = None) -> Catalogue:
    """Open a catalogue for reading.

    Args:
        path: its file; None for the user's own, in the platform's data folder.

    Raises:
        CatalogueError: there is none, or it cannot be used.
    """
    path = path or default_path()
    return Catalogue(path, connect(path, write=False))


class Catalogue(Closing):
    """An open catalogue; see :func:`open_catalogue`. Safe for several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._mutex = threading.RLock()

    def close(self) -> None:
        """Close the file. Closing twice does nothing."""
        with self._mutex:
            self._connection.close()

    def judgements(
        self, folder: str | os.PathLike[str] | None = None, *, settings: int | None = None
    ) -> Iterator[JudgedPhoto]:
        """Yield the photos in a folder and those below it, by path: one for each picture and place, not for each file.

        A photo whose file is gone is among them, unless its picture is somewhere else: its drive may be away.

        Args:
            folder: a folder or a single photo; None for all of the catalogue.
            settings: number of the settings whose judgements are wanted, see :meth:`settings`; None for those that
                were used last.
        """
        used = self.settings()
        number = settings if settings is not None else max(used, key=lambda n: used[n][1], default=0)
        if number not in used:
            return
        where, values = below(folder)
        others = self._followers(folder)
        rows = self._rows(
            "SELECT f.path, f.gone_at, f.content, j.score, j.score_from, j.low, j.high, j.result, j.critique, "
            "j.report, j.judged_at, (SELECT hex(min(digest)) FROM pixels WHERE content = f.content), "
            f"{_columns('b', FRAME_COLUMNS)}, {_columns('c', CONTENT_COLUMNS)} FROM file f "
            "CROSS JOIN judgement j ON j.content = f.content AND j.settings = ? "  # in this order: files are few
            "CROSS JOIN content c ON c.id = f.content LEFT JOIN burst b ON b.content = f.content "
            f"WHERE f.judged_as IS NULL AND {where} AND (f.gone_at IS NULL OR NOT EXISTS "
            "(SELECT 1 FROM file g WHERE g.content = f.content AND g.gone_at IS NULL)) ORDER BY f.path",
            (number, *values),
        )
        for row in rows:
            path, gone_at, content, score, score_from, low, high, result, critique, report, judged_at, key, *rest = row
            frame, about = rest[: len(FRAME_COLUMNS)], rest[len(FRAME_COLUMNS) :]
            found: dict[str, Any] = json.loads(result)
            name = os.fsdecode(path)
            yield JudgedPhoto(
                path=name,
                files=(name, *others.get(path, ())),
                is_away=gone_at is not None,
                key=(key or "").lower(),
                content=content,
                score=score,
                score_from=score_from,
                low=low,
                high=high,
                attributes={name: rating["score"] for name, rating in found.get("attributes", {}).items()},
                result=found,
                critique=critique,
                report=json.loads(report) if report else None,
                frame=Frame(*frame) if frame[0] is not None else None,
                about=Content(**dict(zip(CONTENT_COLUMNS, about, strict=True))),
                settings=used[number][0],
                judged_at=judged_at,
            )

    def _followers(self, folder: str | os.PathLike[str] | None) -> dict[bytes, list[str]]:
        """Return the files that have another one judged in their place, by that one."""
        where, values = below(folder)
        found: dict[bytes, list[str]] = {}
        rows = self._rows(
            f"SELECT f.judged_as, f.path FROM file f WHERE f.judged_as IS NOT NULL AND {where} ORDER BY f.path", values
        )
        for judged_as, path in rows:
            found.setdefault(judged_as, []).append(os.fsdecode(path))
        return found

    def settings(self) -> dict[int, tuple[dict[str, Any], float]]:
        """Return all settings that photos were judged under, by number, each with when it was used last."""
        rows = self._rows("SELECT id, json, used_at FROM settings ORDER BY used_at")
        return {number: (json.loads(text), used_at) for number, text, used_at in rows}

    def failures(self, folder: str | os.PathLike[str] | None = None) -> Iterator[tuple[str, KnownFailure]]:
        """Yield the files in a folder that could not be judged, by path."""
        where, values = below(folder)
        columns = "f.path, f.size, f.mtime_ns, f.ctime_ns, f.type, f.message"
        for path, *state, kind, message in self._rows(
            f"SELECT {columns} FROM failure f WHERE {where} ORDER BY f.path", values
        ):
            yield os.fsdecode(path), KnownFailure(FileState(*state), kind, message)

    def mean_row(self, content: int, settings: int) -> npt.NDArray[np.float32] | None:
        """Return the mean of a picture's image embeddings, float32 [n_embd]; None where it was not kept."""
        row = self._row("SELECT mean FROM mean_row WHERE content = ? AND settings = ?", (content, settings))
        return None if row is None else np.frombuffer(row[0], np.float16).astype(np.float32)

    def n_pictures(self, folder: str) -> int:
        """Return how many pictures are known in a folder and those below it."""
        where, values = below(folder)
        row = self._row(f"SELECT count(DISTINCT content) FROM file f WHERE {where}", values)
        return int(row[0]) if row else 0

    def n_judgements(self) -> int:
        """Return how many judgements there are, under all settings."""
        row = self._row("SELECT count(*) FROM judgement")
        return int(row[0]) if row else 0

    def has_mean_row(self, content: int, settings: int) -> bool:
        """Return whether :meth:`mean_row` has one."""
        return self._row("SELECT 1 FROM mean_row WHERE content = ? AND settings = ?", (content, settings)) is not None

    def scored_rows(self, settings: int, n: int) -> list[tuple[int, float, bytes]]:
        """Return number, score and mean row (float16) of the pictures that the model judged last."""
        rows = self._rows(
            "SELECT j.content, j.score, m.mean FROM judgement j JOIN mean_row m USING(content, settings) "
            "WHERE j.settings = ? AND j.score_from = 'model' ORDER BY j.judged_at DESC LIMIT ?",
            (settings, n),
        )
        return [(content, score, mean) for content, score, mean in rows]

    def score_of(self, content: int, settings: int) -> float | None:
        """Return a picture's score."""
        row = self._row("SELECT score FROM judgement WHERE content = ? AND settings = ?", (content, settings))
        return None if row is None else float(row[0])

    def shots(self) -> Iterator[Shot]:
        """Yield the pictures whose time is known by camera, time and path, with their scores."""
        rows = self._rows(
            "SELECT c.id, (SELECT path FROM file f WHERE f.content = c.id AND f.judged_as IS NULL "
            "ORDER BY f.gone_at IS NOT NULL, f.path LIMIT 1) AS path, (SELECT score FROM judgement j WHERE "
            "j.content = c.id AND j.settings = (SELECT id FROM settings ORDER BY used_at DESC LIMIT 1)), "
            f"{_columns('c', CONTENT_COLUMNS)} FROM content c WHERE c.taken_at IS NOT NULL AND c.thumbnail IS NOT NULL "
            "AND path IS NOT NULL ORDER BY c.camera, c.taken_at, path"
        )
        for content, path, score, *about in rows:
            yield Shot(content, os.fsdecode(path), Content(**dict(zip(CONTENT_COLUMNS, about, strict=True))), score)

    def file(self, path: str, settings: int) -> KnownFile | None:
        """Return what is known of a file, and how far it was judged under some settings."""
        return self.files([path], settings).get(path)

    def files(self, paths: Sequence[str], settings: int) -> dict[str, KnownFile]:
        """Return what is known of some hundred files at once, those that are unknown left out."""
        rows = self._rows(
            "SELECT f.path, f.size, f.mtime_ns, f.ctime_ns, f.content, f.judged_as, j.score_from FROM file f "
            "LEFT JOIN judgement j ON j.content = f.content AND j.settings = ? "
            f"WHERE f.path IN ({', '.join('?' * len(paths))})",
            (settings, *map(os.fsencode, paths)),
        )
        return {
            os.fsdecode(path): KnownFile(
                FileState(size, mtime_ns, ctime_ns),
                content,
                None if judged_as is None else os.fsdecode(judged_as),
                score_from,
            )
            for path, size, mtime_ns, ctime_ns, content, judged_as, score_from in rows
        }

    def failure(self, path: str) -> KnownFailure | None:
        """Return why a file could not be judged."""
        row = self._row(
            "SELECT size, mtime_ns, ctime_ns, type, message FROM failure WHERE path = ?", (os.fsencode(path),)
        )
        return None if row is None else KnownFailure(FileState(*row[:3]), row[3], row[4])

    def has_size(self, size: int) -> bool:
        """Return whether any known file has this size, and so may be a copy."""
        return self._row("SELECT 1 FROM file WHERE size = ? LIMIT 1", (size,)) is not None

    def content_by_tail(self, size: int, tail: bytes) -> int | None:
        """Return the picture of a known file with this size and tail."""
        row = self._row("SELECT content FROM file WHERE size = ? AND tail = ? LIMIT 1", (size, tail))
        return None if row is None else int(row[0])

    def content_by_pixels(self, digest: bytes) -> int | None:
        """Return the picture with these pixels."""
        row = self._row("SELECT content FROM pixels WHERE digest = ?", (digest,))
        return None if row is None else int(row[0])

    def score_from(self, content: int, settings: int) -> str | None:
        """Return who scored a picture, ``model`` or ``first pass``; None where it has no score."""
        row = self._row("SELECT score_from FROM judgement WHERE content = ? AND settings = ?", (content, settings))
        return None if row is None else str(row[0])

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield rows, some hundred at a time: other threads come in between."""
        with self._mutex, sqlite_errors_as_ours(self.path):
            cursor = self._connection.execute(statement, values)
        while True:
            with self._mutex, sqlite_errors_as_ours(self.path):
                rows = cursor.fetchmany(500)
            if not rows:
                return
            yield from rows

    def _row(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._mutex, sqlite_errors_as_ours(self.path):
            row: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return row


def below(folder: str | os.PathLike[str] | None) -> tuple[str, tuple[bytes, ...]]:
    """Return the condition of SQL on ``f.path`` for a file, or what lies below a folder, and its values."""
    if folder is None:
        return "1", ()
    path = os.fsencode(os.path.realpath(folder))
    separator = os.fsencode(os.sep)
    start = path if path.endswith(separator) else path + separator
    end = start[:-1] + bytes([start[-1] + 1])
    # One range, which the key serves; between a folder and what is in it stand its neighbours, as "a b" and "a.jpg".
    return "(f.path >= ? AND f.path < ? AND (f.path = ? OR f.path >= ?))", (path, end, path, start)


def _columns(table: str, names: Sequence[str]) -> str:
    return ", ".join(f"{table}.{name}" for name in names)
