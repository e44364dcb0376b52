"""Write what a catalogue knows of photos as a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from aesedge.errors import MissingExtraError
from aesedge.system.json_line import json_line
from aesedge.system.ordered_map import batched
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from aesedge.library.catalogue import Catalogue
    from aesedge.library.records import JudgedPhoto

Format = Literal["csv", "jsonl", "parquet"]
_COLUMNS: tuple[tuple[type, str], ...] = (
    (str, "path other_files"),
    (bool, "away"),
    (float, "score"),
    (str, "score_from"),
    (float, "low high entropy off_label"),
    (int, "burst"),
    (str, "burst_kind"),
    (int, "burst_position burst_frames"),
    (str, "burst_reason"),
    (datetime, "taken_at"),
    (str, "camera"),
    (float, "exposure_s exposure_ev"),
    (int, "width height"),
    (str, "seen remarks critique strengths faults advice bundle gguf vision"),
    (int, "image_tokens"),
    (datetime, "judged_at"),
    (str, "key error"),
)
"""Columns and what is in them; behind ``off_label`` comes a column ``attribute.NAME`` for each attribute."""
_BEHIND = "off_label"
_ATTRIBUTE = "attribute."
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and how they are written in full width
_ROWS = 1000

Row = dict[str, Any]


def rows_of(catalogue: Catalogue, folders: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each photo in the folders that was judged, then one for each that could not be."""
    seen: set[str] = set()
    for folder in folders:
        for photo in catalogue.judgements(folder):
            if photo.path not in seen:
                seen.add(photo.path)
                yield _row(photo)
        for path, failure in catalogue.failures(folder):
            if path not in seen:
                seen.add(path)
                yield {"path": path, "error": failure.message}


def attributes_of(catalogue: Catalogue, folders: Sequence[str]) -> list[str]:
    """Return the names of the attributes that photos in the folders have scores for."""
    names: dict[str, None] = {}
    for folder in folders:
        scored = (photo.attributes for photo in catalogue.judgements(folder) if photo.attributes)
        for attributes in islice(scored, 1):  # all were judged under the same settings
            names |= dict.fromkeys(attributes)
    return list(names)


def write_table(file: BinaryIO, kind: Format, rows: Iterable[Row], attributes: Sequence[str]) -> int:
    """Write rows; return how many there were.

    Raises:
        MissingExtraError: Parquet needs the extra ``tables``.
    """
    columns: dict[str, type] = {}
    for name, type_ in ((name, type_) for type_, names in _COLUMNS for name in names.split()):
        columns[name] = type_
        if name == _BEHIND:
            columns |= {f"{_ATTRIBUTE}{attribute}": float for attribute in attributes}
    write = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}[kind]
    return write(file, rows, columns)


def _row(photo: JudgedPhoto) -> Row:
    about, frame, report, result = photo.about, photo.frame, photo.report or {}, photo.result
    return {
        "path": photo.path,
        "other_files": "; ".join(photo.files[1:]) or None,
        "away": photo.is_away,
        "score": photo.score,
        "score_from": photo.score_from,
        "low": photo.low,
        "high": photo.high,
        "entropy": result.get("entropy"),
        "off_label": result.get("off_label"),
        **{f"{_ATTRIBUTE}{name}": score for name, score in photo.attributes.items()},
        "burst": frame and frame.burst,
        "burst_kind": frame and frame.kind,
        "burst_position": frame and frame.position,
        "burst_frames": frame and frame.n_frames,
        "burst_reason": frame and frame.reason,
        "taken_at": None if about.taken_at is None else _time(about.taken_at).replace(tzinfo=None),
        "camera": " ".join(filter(None, (about.camera or "").split("|"))) or None,
        "exposure_s": about.exposure_s,
        "exposure_ev": about.exposure_ev,
        "width": about.width,
        "height": about.height,
        "seen": result.get("seen"),
        "remarks": "; ".join(result.get("remarks", ())) or None,
        "critique": photo.critique,
        "strengths": " ".join(report.get("strengths", ())) or None,
        "faults": " ".join(report.get("faults", ())) or None,
        "advice": report.get("advice"),
        **{name: photo.settings.get(name) for name in ("bundle", "gguf", "vision", "image_tokens")},
        "judged_at": _time(photo.judged_at),
        "key": photo.key,
    }


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_csv(file: BinaryIO, rows: Iterable[Row], columns: dict[str, type]) -> int:
    """Write RFC 4180 with a byte order mark, by which spreadsheets know that it is UTF-8.

    All text is quoted: where the list separator is a semicolon, one in a name would begin a cell.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="", write_through=True)
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    n = 0
    writer.writerow([_cell(name) for name in columns])
    for row in rows:
        n += 1
        writer.writerow([_cell(row.get(name)) for name in columns])
    text.detach()
    return n


def _cell(value: Any) -> Any:
    """Return a value as a cell that a spreadsheet shows and does not compute."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return round(value, 6)
    if value is None or isinstance(value, int):
        return value
    text = sanitize(_iso(value) if isinstance(value, datetime) else str(value), lines=True)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text[:1] in {"\t", "\r", "\n"} else text


def _write_jsonl(file: BinaryIO, rows: Iterable[Row], columns: dict[str, type]) -> int:
    n = 0
    for row in rows:
        n += 1
        values = {name: _plain(row[name]) for name in columns if row.get(name) is not None}
        file.write(json_line(values).encode() + b"\n")
    return n


def _plain(value: Any) -> Any:
    return _iso(value) if isinstance(value, datetime) else round(value, 6) if isinstance(value, float) else value


def _write_parquet(file: BinaryIO, rows: Iterable[Row], columns: dict[str, type]) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("a table in Parquet", "tables") from error
    types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    zones = {"judged_at": pa.timestamp("ms", "UTC"), "taken_at": pa.timestamp("ms")}
    schema = pa.schema([(name, zones.get(name) or types[type_]) for name, type_ in columns.items()])
    n = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for group in batched(rows, _ROWS):
            n += len(group)
            values = [{name: _utf8(row.get(name)) for name in columns} for row in group]
            writer.write_table(pa.Table.from_pylist(values, schema))
    return n


def _utf8(value: Any) -> Any:
    return sanitize(value, lines=True) if isinstance(value, str) else value
