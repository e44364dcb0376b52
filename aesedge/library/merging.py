"""Add what one catalogue knows to another: the shards of a library become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.library.bursts import regroup
from aesedge.library.catalogue_file import connect
from aesedge.library.records import CONTENT_COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.library.catalogue_writer import CatalogueWriter

_CONTENT = ", ".join(CONTENT_COLUMNS)
_STEPS = f"""
INSERT INTO settings(key, json, used_at) SELECT key, json, used_at FROM part.settings WHERE true
    ON CONFLICT(key) DO UPDATE SET used_at = max(settings.used_at, excluded.used_at);
INSERT INTO temp.settings_of SELECT p.id, m.id FROM part.settings p JOIN main.settings m USING(key);
INSERT OR IGNORE INTO temp.content_of
    SELECT p.content, m.content FROM part.pixels p JOIN main.pixels m USING(digest);
INSERT INTO main.content(id, {_CONTENT})
    SELECT id + (SELECT n FROM temp.offset), {_CONTENT} FROM part.content
    WHERE id NOT IN (SELECT theirs FROM temp.content_of);
INSERT OR IGNORE INTO temp.content_of SELECT id, id + (SELECT n FROM temp.offset) FROM part.content;
INSERT OR IGNORE INTO main.pixels SELECT digest, ours FROM part.pixels JOIN temp.content_of ON theirs = content;
INSERT OR REPLACE INTO main.file
    SELECT path, size, mtime_ns, ctime_ns, tail, ours, judged_as, gone_at
    FROM part.file JOIN temp.content_of ON theirs = content;
INSERT INTO main.judgement
    SELECT c.ours, s.ours, score, score_from, low, high, result, critique, report, judged_at FROM part.judgement j
    JOIN temp.content_of c ON c.theirs = j.content JOIN temp.settings_of s ON s.theirs = j.settings WHERE true
    ON CONFLICT(content, settings) DO UPDATE SET
        score = excluded.score, score_from = excluded.score_from, low = excluded.low, high = excluded.high,
        result = excluded.result, critique = excluded.critique, report = excluded.report,
        judged_at = excluded.judged_at
    WHERE judgement.score_from <> 'model' AND excluded.score_from = 'model';
INSERT INTO main.judgement
    SELECT c.ours, s.ours, score, score_from, low, high, result, critique, report, judged_at FROM part.judgement j
    JOIN temp.content_of c ON c.theirs = j.content JOIN temp.settings_of s ON s.theirs = j.settings
    WHERE critique IS NOT NULL OR report IS NOT NULL
    ON CONFLICT(content, settings) DO UPDATE SET
        critique = coalesce(critique, excluded.critique), report = coalesce(report, excluded.report);
INSERT OR IGNORE INTO main.mean_row
    SELECT c.ours, s.ours, mean FROM part.mean_row m
    JOIN temp.content_of c ON c.theirs = m.content JOIN temp.settings_of s ON s.theirs = m.settings;
INSERT OR IGNORE INTO main.failure SELECT * FROM part.failure WHERE path NOT IN (SELECT path FROM main.file);
DELETE FROM main.failure WHERE path IN (SELECT path FROM main.file)
"""


def merge(part: Path, into: CatalogueWriter) -> tuple[int, int]:
    """Add a catalogue to another one; to do it again changes nothing.

    Returns:
        How many judgements were added, and how many were known.

    Raises:
        CatalogueError: the part is no catalogue of this version, or the other one cannot be written.
    """
    connect(part, write=False).close()
    before = into.n_judgements()
    n_part = into.run_attached(part, _STEPS)
    regroup(into)
    n_new = into.n_judgements() - before
    return n_new, n_part - n_new
