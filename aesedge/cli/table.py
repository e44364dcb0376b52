"""The command ``table``: what the catalogue knows, for spreadsheets and programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.library_options import CatalogueFile, Folders
from aesedge.cli.options import Printing, with_options
from aesedge.cli.streams import print_json
from aesedge.errors import UsageError
from aesedge.library.table import Format, Row
from aesedge.system.sanitize import sanitize

_FORMATS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@with_options(json="Print the file and the number of its rows as one JSON object.")
def table(
    folders: Folders,
    out: Annotated[Path, typer.Option("--out", help="The table: a name that ends in .csv, .jsonl or .parquet.")],
    catalogue: CatalogueFile = None,
    printing: Printing = Printing(),
) -> None:
    """Write what is known of the photos in folders as a table.

    Each photo is a row: score, attributes, place in its burst and why, texts, camera, what it was judged with, or why
    it could not be judged. Text in a CSV cannot run as a formula.
    """
    from aesedge.library.catalogue import open_catalogue
    from aesedge.library.table import attributes_of, rows_of, write_table
    from aesedge.system.atomic_file import open_atomic

    kind = _FORMATS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(f"--out {out}: a table's name ends in .csv, .jsonl or .parquet")
    with open_catalogue(catalogue) as file:
        rows = rows_of(file, folders)
        first = next(rows, None)
        if first is None:
            raise UsageError(
                f"{', '.join(map(sanitize, folders))}: the catalogue knows no photo there; 'aesedge rate' judges them"
            )
        attributes = attributes_of(file, folders)
        with open_atomic(out) as written:
            n = write_table(written, kind, _with_first(first, rows), attributes)
    if printing.json:
        print_json({"out": str(out), "rows": n})
    elif not printing.quiet:
        print(f"{n:,} rows in {sanitize(str(out))}")


def _with_first(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest
