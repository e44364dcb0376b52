"""Define the catalogue's tables, by schema version."""

from __future__ import annotations

APPLICATION_ID = 0x61657365
"""SQLite's ``application_id`` of a catalogue: "aese"."""

MIGRATIONS = (
    """
    -- Who holds, or held last, the writer's lock.
    CREATE TABLE writer(id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, began REAL NOT NULL);
    -- What a judgement was made with: bundle, types, image tokens, prompts. key is a hash of json.
    CREATE TABLE settings(
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, json TEXT NOT NULL, used_at REAL NOT NULL
    );
    -- A picture by its pixels, in however many files. thumbnail is 16 x 16 RGB.
    CREATE TABLE content(
        id INTEGER PRIMARY KEY, width INTEGER, height INTEGER, taken_at REAL, camera TEXT, exposure_s REAL,
        exposure_ev REAL, thumbnail BLOB, sharpness REAL
    );
    -- Digest of the pixels as a vision tower reads them: towers of several sizes give several digests of one picture.
    CREATE TABLE pixels(digest BLOB PRIMARY KEY, content INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX pixels_content ON pixels(content);
    -- path is what os.fsencode gives. judged_as is the file that was judged in place of this one (RAW beside JPEG).
    CREATE TABLE file(
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, tail BLOB,
        content INTEGER NOT NULL, judged_as BLOB, gone_at REAL
    ) WITHOUT ROWID;
    CREATE INDEX file_tail ON file(size, tail);
    CREATE INDEX file_content ON file(content);
    CREATE TABLE judgement(
        content INTEGER NOT NULL, settings INTEGER NOT NULL, score REAL NOT NULL, score_from TEXT NOT NULL, low REAL,
        high REAL, result TEXT NOT NULL, critique TEXT, report TEXT, judged_at REAL NOT NULL,
        PRIMARY KEY(content, settings)
    ) WITHOUT ROWID;
    CREATE INDEX judgement_score ON judgement(settings, score);
    -- Mean of a picture's image embeddings, float16.
    CREATE TABLE mean_row(
        content INTEGER NOT NULL, settings INTEGER NOT NULL, mean BLOB NOT NULL, PRIMARY KEY(content, settings)
    );
    CREATE TABLE failure(
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        type TEXT NOT NULL, message TEXT NOT NULL, failed_at REAL NOT NULL
    ) WITHOUT ROWID;
    -- Made again from content whenever something new was judged.
    CREATE TABLE burst(
        content INTEGER PRIMARY KEY, burst INTEGER NOT NULL, kind TEXT NOT NULL, position INTEGER NOT NULL,
        n_frames INTEGER NOT NULL, reason TEXT NOT NULL
    );
    """,
)
"""Statements that make each schema version out of the one before, from an empty file on."""

VERSION = len(MIGRATIONS)
