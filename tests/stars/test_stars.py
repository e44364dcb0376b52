"""`aesedge stars`: files written and taken back, people's values left alone, in whatever order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from judged_library import contents, judge
from xmp_packets import FULL_PACKET

from aesedge.cli import main
from aesedge.xmp.editing import Items, edit
from aesedge.xmp.journal import Journal
from aesedge.xmp.packet import Packet
from aesedge.xmp.property_names import (
    CRITIQUE,
    HIERARCHICAL_SUBJECT,
    LABEL,
    PICK,
    PICK_LABEL,
    RATING,
    SCORE,
    SIDECAR_FOR_EXTENSION,
    SUBJECT,
    TAGS_LIST,
    Name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SCORES = {"a.jpg": 8.4, "b.CR3": 6.6, "c.jpg": 2.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    judge(tmp_path / "photos", SCORES, critique="Sharp & bright.")
    return tmp_path / "photos"


def stars(*arguments: object) -> int:
    return main(["stars", *map(str, arguments)])


def rate_by_hand(path: Path, rating: str | None, name: Name = RATING) -> None:
    """Set a value as a photo program does."""
    before = (
        path.read_bytes() if path.exists() else b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
    )
    path.write_bytes(edit(before, {name: rating}, "x"))


def value(path: Path, name: Name = RATING) -> str | None:
    return Packet(path.read_bytes(), "x").text(name)


def test_written_and_taken_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    assert stars(folder) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "run 1: 3 sidecars made, 0 files edited" in err
    assert sorted(contents(folder).keys() - before.keys()) == ["a.jpg.xmp", "b.xmp", "c.jpg.xmp"]
    assert [value(folder / name) for name in ("a.jpg.xmp", "b.xmp", "c.jpg.xmp")] == ["5", "4", "1"]
    packet = Packet((folder / "b.xmp").read_bytes(), "x")
    assert packet.text(CRITIQUE) == "Sharp & bright."
    assert packet.text(SIDECAR_FOR_EXTENSION) == "CR3"
    assert stars(folder) == 0
    assert "nothing to write" in capsys.readouterr().err
    assert stars("--undo") == 0
    assert contents(folder) == before
    assert "3 sidecars removed" in capsys.readouterr().err
    assert stars("--undo") == 2  # nothing is left to undo


def test_edits_are_undone_to_the_byte(folder: Path) -> None:
    (folder / "b.CR3.xmp").write_bytes(FULL_PACKET)
    (folder / "b.xmp").write_bytes(FULL_PACKET.replace(b"\n", b"\r\n"))
    (folder / "b.xmp").chmod(0o600)
    before = contents(folder)
    assert stars(folder, "--keywords", "--labels", "Green=6,Red=0", "--embed") == 0
    assert (value(folder / "b.xmp"), value(folder / "b.CR3.xmp")) == ("4", "4")
    assert value(folder / "b.xmp", LABEL) == "Green"
    assert (folder / "b.xmp").stat().st_mode & 0o777 == 0o600
    assert "a.jpg.xmp" not in contents(folder)
    assert before["a.jpg"] != contents(folder)["a.jpg"]
    assert stars(folder, "--stars", "share", "--keywords") == 0
    assert stars("--undo", 1) == 2  # the later run changed the same files
    assert stars("--undo") == 0
    assert stars("--undo") == 0
    assert contents(folder) == before


def test_a_dry_run_writes_nothing_and_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rate_by_hand(folder / "a.jpg.xmp", "2")
    before = contents(folder)
    assert stars(folder, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert contents(folder) == before
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert [row[1:] for row in rows] == [
        ["score", "offer", "files", "left alone"],
        ["8.4", "a.jpg.xmp", "rated 2 by a person"],
        ["6.6", "★★★★", "b.xmp (new)"],
        ["2.0", "★", "c.jpg.xmp (new)"],
    ]
    assert err == ""
    with Journal() as journal:
        assert journal.runs() == []


def test_json_has_a_line_for_each_photo(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.jpg.xmp").write_bytes(b"")
    assert stars(folder, "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {
        "photo": str(folder / "a.jpg"),
        "score": 8.4,
        "stars": 5,
        "label": None,
        "files": [{"file": str(folder / "a.jpg.xmp"), "new": True}],
        "left": [],
    }
    assert lines[2]["error"]["type"] == "XmpError"
    assert stars("--undo", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"file": str(folder / "a.jpg.xmp"), "undone": "removed"}


@pytest.mark.parametrize(
    ("program", "reject", "where", "wanted"),
    [
        ("auto", "3", "c.jpg.xmp", {RATING: "-1"}),
        ("darktable", "3", "c.jpg.xmp", {RATING: "-1"}),
        ("digikam", "3", "c.jpg.xmp", {RATING: None, PICK_LABEL: "1"}),
        ("lightroom", "7", "b.xmp", {RATING: None, PICK: "-1"}),
    ],
)
def test_rejected_as_the_program_does(
    folder: Path, program: str, reject: str, where: str, wanted: dict[Name, str | None]
) -> None:
    before = contents(folder)
    assert stars(folder, "--for", program, "--reject-below", reject) == 0
    assert {name: value(folder / where, name) for name in wanted} == wanted
    assert stars("--undo") == 0
    assert contents(folder) == before
    assert stars(folder, "--for", "captureone", "--reject-below", reject) == 2


def test_keywords_follow_the_score_and_others_stay(folder: Path) -> None:
    sidecar = folder / "a.jpg.xmp"
    sidecar.write_bytes(FULL_PACKET)
    assert stars(folder, "--keywords") == 0
    judge(folder, {})  # the same catalogue
    packet = Packet(sidecar.read_bytes(), "x")
    assert packet.items(SUBJECT) == ("sea", "grün, blau", "aesedge score 8")
    assert packet.items(HIERARCHICAL_SUBJECT) == ("aesedge|aesedge score 8",)
    assert packet.items(TAGS_LIST) == ("aesedge/aesedge score 8",)
    sidecar.write_bytes(edit(sidecar.read_bytes(), {SUBJECT: Items(("boat",))}, "x"))
    assert stars("--undo") == 0
    assert Packet(sidecar.read_bytes(), "x").items(SUBJECT) == ("sea", "grün, blau", "boat")


def test_once_a_persons_for_ever_a_persons(folder: Path) -> None:
    sidecar = folder / "a.jpg.xmp"
    assert stars(folder) == 0
    rate_by_hand(sidecar, "3")
    assert stars(folder) == 0
    assert value(sidecar) == "3"
    rate_by_hand(sidecar, "5")  # what aesedge had written, but chosen by the person now
    assert stars(folder, "--cuts", "9,9.2,9.4,9.6") == 0
    assert value(sidecar) == "5"
    shutil.rmtree(Path(os.environ["AESEDGE_HOME"]) / "journal", ignore_errors=True)
    (Path(os.environ["AESEDGE_HOME"]) / "journal.sqlite").unlink()  # another machine: the file itself says so
    assert stars(folder, "--cuts", "9,9.2,9.4,9.6") == 0
    assert value(sidecar) == "5"
    rate_by_hand(sidecar, None)
    assert stars(folder) == 0


def test_a_person_on_one_file_of_a_pair_is_a_person_on_both(tmp_path: Path) -> None:
    judge(tmp_path, {"a.JPG": 8.0}, pairs={"a.CR3": "a.JPG"})
    rate_by_hand(tmp_path / "a.xmp", "2")  # of the RAW
    assert stars(tmp_path) == 0
    assert value(tmp_path / "a.xmp") == "2"
    assert value(tmp_path / "a.JPG.xmp") is None
    assert value(tmp_path / "a.JPG.xmp", SCORE) == "8.0"


def test_both_files_of_a_pair_are_written(tmp_path: Path) -> None:
    judge(tmp_path, {"a.JPG": 8.0}, pairs={"a.CR3": "a.JPG"})
    assert stars(tmp_path) == 0
    assert (value(tmp_path / "a.xmp"), value(tmp_path / "a.JPG.xmp")) == ("5", "5")


def test_an_estimate_never_becomes_a_star(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge(tmp_path, {"a.jpg": 9.0}, score_from="first pass")
    before = contents(tmp_path)
    assert stars(tmp_path, "--dry-run") == 0
    assert "only the first pass has seen it" in capsys.readouterr().out
    assert stars(tmp_path, "--reject-below", "9.5") == 0
    assert contents(tmp_path) == before


def test_what_cannot_be_edited_is_named_and_the_others_are_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.jpg.xmp").write_bytes(FULL_PACKET.decode().encode("utf-16"))
    (folder / "b.xmp").write_bytes(b"<!DOCTYPE x><x/>")
    assert stars(folder) == 1
    err = capsys.readouterr().err
    assert re.search(r"a\.jpg\.xmp: is written in UTF-16", err)
    assert re.search(r"b\.xmp: has a DOCTYPE", err)
    assert value(folder / "c.jpg.xmp") == "1"
    assert (folder / "b.xmp").read_bytes() == b"<!DOCTYPE x><x/>"


def test_what_another_program_changed_keeps_its_changes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stars(folder, "--labels", "Green=7") == 0
    sidecar = folder / "a.jpg.xmp"
    rate_by_hand(sidecar, "2")
    rate_by_hand(folder / "b.xmp", "from elsewhere", Name("http://purl.org/dc/elements/1.1/", "source"))
    (folder / "c.jpg.xmp").unlink()
    assert stars("--undo") == 0
    out, err = capsys.readouterr()
    assert "a.jpg.xmp: another program has changed it since; only what aesedge wrote is taken back" in out
    assert "2 changed since, and only ours taken back, 1 as before already" in err
    assert value(sidecar) == "2"
    assert b"aesedge" not in sidecar.read_bytes()
    assert b"from elsewhere" in (folder / "b.xmp").read_bytes()
    assert value(folder / "b.xmp") is None


def test_a_file_that_changes_under_the_run_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Journal.record

    def recorded(journal: Journal, run: int, edits: Iterator[object]) -> None:
        record(journal, run, edits)  # type: ignore[arg-type]
        rate_by_hand(folder / "a.jpg.xmp", "3")

    monkeypatch.setattr(Journal, "record", recorded)
    assert stars(folder) == 1
    assert "a.jpg.xmp: another program has changed it just now" in capsys.readouterr().err
    assert value(folder / "a.jpg.xmp") == "3"
    assert value(folder / "b.xmp") == "4"


@pytest.mark.parametrize("n_written", [0, 2])
def test_what_a_killed_run_wrote_is_taken_back(folder: Path, n_written: int) -> None:
    (folder / "a.jpg.xmp").write_bytes(FULL_PACKET)
    before = contents(folder)
    script = (
        "import os, sys; from aesedge.cli import main; from aesedge.stars import writing\n"
        f"left = [{n_written}]; make = writing.FileChange.make\n"
        "def made(change):\n"
        "    if not left[0]: os.kill(os.getpid(), 9)\n"
        "    left[0] -= 1; make(change)\n"
        "writing.FileChange.make = made; writing._AT_ONCE = 1; main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", script, "stars", str(folder)], check=False, capture_output=True)
    assert done.returncode == -9
    assert len(contents(folder)) - len(before) == max(n_written - 1, 0)
    assert stars("--undo") == 0
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--undo", "x"], "name one run by its number"),
        (["--undo", "7"], "there is no run 7"),
        ([], "name a folder"),
        (["{}", "--labels", "Green"], "write label=score"),
        (["{}", "--cuts", "1"], "write four scores"),
        (["/nowhere"], "no photo there is judged yet"),
        (["{}", "--catalogue", "/nowhere/x"], "there is no catalogue"),
    ],
)
def test_wrong_calls(folder: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stars(*(argument.format(folder) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert why in err
    assert (out, err.count("\n")) == ("", 1)


def test_runs_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stars("--runs") == 0
    assert capsys.readouterr().out == "no run has written anything\n"
    assert stars(folder) == 0
    assert stars("--runs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"] == 3
