"""Read tables of photographs and human scores, as their publishers wrote them.

Read as they come: CSV (any delimiter and encoding), Parquet, AVA's ``AVA.txt``, and the folder of LIVE In the Wild with
its MATLAB files. Columns are found by the names that KonIQ-10k, SPAQ, TAD66K, PARA and others use,
or the user names them.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.system.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

IMAGE_COLUMNS = (
    *("file", "image", "image_name", "imagename", "image name"),
    *("filename", "file_name", "photo", "path", "name"),
)
SCORE_COLUMNS = ("mos", "aestheticscore_mean", "score", "mean", "mean_score", "mos_zscore", "rating", "opinion")
FOLDER_COLUMNS = ("sessionid",)
"""PARA: a folder before the picture's name."""
SCALES = ((0.0, 1.0), (1.0, 5.0), (0.0, 10.0), (0.0, 100.0))
"""What scores are taken to be out of, the first that holds all of them."""
_IMAGE_FOLDERS = ("", "images", "Images", "image", "img", "imgs")
_LIVE = ("Data/AllImages_release.mat", "Data/AllMOS_release.mat")
_TRAINING = re.compile(r"t\d+\.")
_AVA_COLUMNS = 15  # index, id, ten counts, two tags, challenge
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class RatedPhoto:
    """A photograph and what people think of it."""

    name: str
    """As the table has it."""
    path: Path
    opinion: float
    """0 to 10."""


@dataclass
class RatingsTable:
    """The photographs of a table that can be used, and a line for every row that cannot."""

    photos: list[RatedPhoto] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    scale: tuple[float, float] = (0.0, 10.0)
    columns: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class _Row:
    where: str
    name: str
    score: Any


def read_ratings(
    table: Path,
    *,
    images: Path | None = None,
    image_column: str | None = None,
    score_column: str | None = None,
    scale: tuple[float, float] | None = None,
) -> RatingsTable:
    """Read a table.

    Args:
        table: the file, or the folder of LIVE In the Wild.
        images: where the pictures are; by default beside the table, or in a folder ``images`` there.
        image_column: of the pictures' names.
        score_column: of the scores; higher is better.
        scale: lowest and highest score that could be given; by default the first of :data:`SCALES` that holds all.

    Raises:
        UsageError: the table cannot be read, or has no such columns, or no row of it can be used.
    """
    found = RatingsTable()
    if table.is_dir():
        columns, rows = _live_rows(table)
        images = images or table
    else:
        columns, rows = _rows(table, image_column, score_column)
    found.columns = columns
    scored = list(_with_scores(rows, found.problems))
    found.scale = scale or _scale_of([score for _, score in scored], table)
    low, high = found.scale
    places = [images] if images else [table.parent / sub for sub in _IMAGE_FOLDERS]
    if images:
        places += [images / sub for sub in _IMAGE_FOLDERS if sub]
    seen: dict[str, str] = {}
    for row, score in scored:
        path = next((place / row.name for place in places if (place / row.name).is_file()), None)
        if row.name in seen:
            found.problems.append(f"{row.where}: {row.name} is there twice (first in {seen[row.name]}); left out")
        elif not low <= score <= high:
            found.problems.append(f"{row.where}: the score {score:g} is not between {low:g} and {high:g}; left out")
        elif path is None:
            found.problems.append(f"{row.where}: {row.name} is not in {places[0]}; left out")
        else:
            seen[row.name] = row.where
            found.photos.append(RatedPhoto(row.name, path, 10 * (score - low) / (high - low)))
    if not found.photos:
        reason = f": {found.problems[0]}" if found.problems else ""
        raise UsageError(f"{table}: no row can be used{reason}")
    return found


def _with_scores(rows: Iterable[_Row], problems: list[str]) -> Iterator[tuple[_Row, float]]:
    for row in rows:
        try:
            score = float(str(row.score).strip().replace(",", "."))
        except ValueError:
            score = math.nan
        if not row.name:
            problems.append(f"{row.where}: names no picture; left out")
        elif math.isfinite(score):
            yield row, score
        else:
            problems.append(f"{row.where}: {str(row.score)[:40]!r} is no score; left out")


def _scale_of(scores: Sequence[float], table: Path) -> tuple[float, float]:
    if not scores:
        return SCALES[-1]
    for low, high in SCALES:
        if low <= min(scores) and max(scores) <= high:
            return low, high
    raise UsageError(
        f"{table}: scores from {min(scores):g} to {max(scores):g}; say what they are out of with --scale LOW:HIGH"
    )


def _rows(table: Path, image_column: str | None, score_column: str | None) -> tuple[tuple[str, str], list[_Row]]:
    if table.suffix.lower() == ".parquet":
        names, records = _parquet(table)
    else:
        names, records = _csv(table)
        if names and len(names) == _AVA_COLUMNS and all(name.isdigit() for name in names):
            return _ava([(1, names), *records], table)
    image = _column(names, image_column, IMAGE_COLUMNS, table, "--image-column")
    score = _column(names, score_column, SCORE_COLUMNS, table, "--score-column")
    folder = next((i for i, name in enumerate(names) if name.strip().lower() in FOLDER_COLUMNS), None)
    rows = []
    for line, record in records:
        cells = [*record, *[""] * (len(names) - len(record))]
        name = str(cells[image]).strip()
        if folder is not None and name:
            name = f"{str(cells[folder]).strip()}/{name}"
        rows.append(_Row(f"{table}, line {line}", name, cells[score]))
    return (names[image], names[score]), rows


def _column(names: Sequence[str], wanted: str | None, usual: Sequence[str], table: Path, option: str) -> int:
    lower = [name.strip().lower() for name in names]
    for name in [wanted.lower()] if wanted else usual:
        if name in lower:
            return lower.index(name)
    shown = ", ".join(names[:20])
    raise UsageError(f"{table}: no column {wanted or ' or '.join(usual[:4])}; name one of {shown} with {option}")


def _csv(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        data = read_regular(table, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{table}: cannot be read: {error.strerror}") from None
    text = _decoded(data)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t ", key=lambda c: (first.count(c), c != " "))
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=delimiter == " ")
        lines = [(reader.line_num, cells) for cells in reader if cells and any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UsageError(f"{table}: is no table ({error}); save it as CSV") from None
    if not lines:
        raise UsageError(f"{table}: is empty")
    return [cell.strip() for cell in lines[0][1]], lines[1:]


def _decoded(data: bytes) -> str:
    """Return text of any encoding that spreadsheets write: UTF-8, UTF-16 with its mark, else Windows' Western one."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _ava(lines: Sequence[tuple[int, list[str]]], table: Path) -> tuple[tuple[str, str], list[_Row]]:
    """Return AVA's pictures with the mean of their votes of 1 to 10."""
    rows = []
    for line, cells in lines:
        counts = [int(cell) if cell.isdigit() else 0 for cell in cells[2:12]]
        mean: Any = sum(i * n for i, n in enumerate(counts, 1)) / sum(counts) if sum(counts) else "no votes"
        rows.append(_Row(f"{table}, line {line}", f"{cells[1]}.jpg", mean))
    return ("AVA's id", "mean of AVA's votes"), rows


def _parquet(table: Path) -> tuple[list[str], list[tuple[int, list[Any]]]]:
    from pyarrow import ArrowException, parquet

    try:
        columns = parquet.read_table(table).to_pydict()
    except (OSError, ArrowException) as error:
        raise UsageError(f"{table}: is no Parquet file: {str(error).splitlines()[0][:200]}") from None
    return list(columns), [(i, list(cells)) for i, cells in enumerate(zip(*columns.values(), strict=True), 1)]


def _live_rows(folder: Path) -> tuple[tuple[str, str], list[_Row]]:
    """Return LIVE In the Wild's pictures, without the seven (t1.bmp and so on) that the raters were trained with."""
    from scipy.io import loadmat

    try:
        names = loadmat(folder / _LIVE[0])["AllImages_release"].ravel()
        scores = loadmat(folder / _LIVE[1])["AllMOS_release"].ravel()
    except (OSError, KeyError, ValueError):
        raise UsageError(
            f"{folder}: is no table, nor LIVE In the Wild ({_LIVE[0]} and {_LIVE[1]}); name the CSV file"
        ) from None
    rows = [
        _Row(f"{folder / _LIVE[0]}, entry {i}", str(name.item() if hasattr(name, "item") else name), float(score))
        for i, (name, score) in enumerate(zip(names, scores, strict=True), 1)
    ]
    return ("AllImages_release", "AllMOS_release"), [row for row in rows if not _TRAINING.match(row.name)]
