"""Read tables of photographs and human scores, as their publishers wrote them.

Read as they come: CSV (any delimiter and encoding), Parquet, AVA's ``AVA.txt``, and the folder of LIVE In the Wild with
its MATLAB files. Columns are found by the names that KonIQ-10k, SPAQ, TAD66K, PARA and others use,
or the user names them.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.system.regular_file import first_file, read_regular

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
_NO_TEXT = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\xff\xd8\xff", b"\x89PNG", b"\x1f\x8b", b"%PDF")
"""How spreadsheets, old ones too, JPEG, PNG, gzip and PDF begin."""
_LIVE = ("Data/AllImages_release.mat", "Data/AllMOS_release.mat")
_TRAINING = re.compile(r"t\d+\.")
_AVA_COLUMNS = 15  # index, id, ten counts, two tags, challenge
_MOST_BYTES = 1 << 27  # AVA's 255,000 rows have 11 MB; much more than this would not fit the memory as cells
_DELIMITERS = "\t;,|"
_N_LOOKED_AT = 20


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

    path: Path
    """The file with the scores."""
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
    found = RatingsTable(table)
    if table.is_dir():
        columns, rows = _live_rows(table)
        found.path = table / _LIVE[1]
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
    seen: dict[Path, str] = {}
    for row, score in scored:
        name = row.name.replace("\\", "/")  # as Windows writes it
        path = first_file(place / tried for tried in dict.fromkeys((row.name, name)) for place in places)
        if path is None:
            found.problems.append(f"{row.where}: {row.name:.200} is not in {places[0]}; left out")
        elif path in seen:
            found.problems.append(f"{row.where}: {row.name} is there twice (first in {seen[path]}); left out")
        elif not low <= score <= high:
            found.problems.append(f"{row.where}: the score {score:g} is not between {low:g} and {high:g}; left out")
        else:
            seen[path] = row.where
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
    if data.startswith(_NO_TEXT):
        raise UsageError(f"{table}: is no text, but a spreadsheet, an archive or a picture; save the table as CSV")
    text = _decoded(data)
    try:
        lines = list(_cells(text, _delimiter(text)))
    except csv.Error as error:
        raise UsageError(f"{table}: is no table ({error}); save it as CSV") from None
    if not lines:
        raise UsageError(f"{table}: is empty")
    return [cell.strip() for cell in lines[0][1]], lines[1:]


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter == " ")
    return ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))


def _delimiter(text: str) -> str:
    """Return what is between the cells: what makes equally many of every line, and most of them."""

    def fits(delimiter: str) -> tuple[bool, int]:
        try:
            counts = [len(cells) for _, cells in itertools.islice(_cells(text, delimiter), _N_LOOKED_AT)]
        except csv.Error:
            counts = []
        return len(set(counts)) == 1, counts[0] if counts else 0

    found = {delimiter: fits(delimiter) for delimiter in _DELIMITERS}
    best = max(found, key=lambda delimiter: (found[delimiter][1] > 1, *found[delimiter]))
    return best if found[best][1] > 1 else " "


def _decoded(data: bytes) -> str:
    """Return text of any encoding that spreadsheets write: UTF-8, UTF-16, else Windows' Western one."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:2]:  # UTF-16 of Latin letters without its mark
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors="replace")
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
