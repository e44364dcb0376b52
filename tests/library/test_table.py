"""Tables: every photo is a row, text stays text in spreadsheets, and files are whole or not there."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_runner import cli  # noqa: F401 (a fixture)
from photo_files import capture, jpeg, write_photos

from aesedge.library import table

if TYPE_CHECKING:
    from cli_runner import Cli

NAMES = ["=1+1.jpg", "@x.jpg", "-2.jpg", "+3.jpg", "a;=1+1.jpg", 'quote".jpg', "new\nline.jpg", "\u00fcml\u00e4ut.jpg"]


@pytest.fixture
def rated(cli: Cli, tmp_path: Path) -> Path:  # noqa: F811
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(jpeg(i, exif=capture("2026:11:30 10:00:00", model="=cmd", bias=-1.0)))
    (folder / "bad.jpg").write_bytes(b"junk")
    assert cli("rate", "--quiet", folder)[0] == 1
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_is_for_spreadsheets(rated: Path, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "x.csv"
    code, printed, _ = cli("table", rated, "--out", out, load=False)
    assert (code, printed) == (0, f"{len(NAMES) + 1} rows in {out}\n")
    data = out.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == len(NAMES) + 2
    rows = read_csv(out)
    assert {Path(row["path"]).name for row in rows} == {*NAMES, "bad.jpg"}
    good = [row for row in rows if not row["error"]]
    assert all(0 <= float(row["score"]) <= 10 and float(row["exposure_ev"]) == -1 for row in good)
    assert all(row["camera"] == "'=cmd" and row["taken_at"].startswith("2026-11-30T10:00:00") for row in good)
    assert {name for name in rows[0] if name.startswith("attribute.")} >= {"attribute.content"}
    assert "is not an image in a known format" in rows[-1]["error"]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\n=1", " =1", "\uff1d1", "\uff201"])
def test_no_text_can_run_as_a_formula(text: str) -> None:
    assert table._cell(text).startswith("'")


@pytest.mark.parametrize("value", [-1, -1.5, 0, None, "a=1", "", "1-1"])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert table._cell(value) == value


def test_json_lines_hold_what_is_known(rated: Path, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "x.jsonl"
    assert cli("table", rated, "--out", out, "--json", load=False)[1] == f'{{"out":"{out}","rows":{len(NAMES) + 1}}}\n'
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {Path(line["path"]).name for line in lines} == {*NAMES, "bad.jpg"}
    assert all("critique" not in line for line in lines)


def test_parquet_has_types(rated: Path, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "x.parquet"
    assert cli("table", rated, "--out", out, load=False)[0] == 0
    found = parquet.read_table(out)
    assert found.num_rows == len(NAMES) + 1
    types = {field.name: str(field.type) for field in found.schema}
    assert types["score"] == "double"
    assert types["burst"] == "int64"
    assert types["taken_at"] == "timestamp[ms]"
    rows = {Path(row["path"]).name: row for row in found.to_pylist()}
    assert rows["-2.jpg"]["exposure_ev"] == -1


@pytest.mark.parametrize(
    ("out", "message"),
    [("x.xls", "a table's name ends in .csv, .jsonl or .parquet"), ("none/x.csv", "No such file or directory")],
)
def test_a_table_that_cannot_be_written(out: str, message: str, rated: Path, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    code, printed, err = cli("table", rated, "--out", tmp_path / out, load=False)
    assert code in (1, 2)
    assert printed == ""
    assert message in err


def test_photos_that_are_not_known(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "other").mkdir()
    write_photos(tmp_path / "photos", 1)
    out = tmp_path / "x.csv"
    assert "there is no catalogue yet" in cli("table", tmp_path, "--out", out, load=False)[2]
    cli("rate", tmp_path / "photos")
    code, _, err = cli("table", tmp_path / "other", "--out", out, load=False)
    assert code == 2
    assert "the catalogue knows no photo there; 'aesedge rate' judges them" in err
    assert not out.exists()
