"""Decisions of a sheet become the person's values; what was set since stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from judged_library import contents, judge

from aesedge.cli import main
from aesedge.xmp.packet import Packet
from aesedge.xmp.property_names import PICK, PICK_LABEL, RATING, SCORE, WROTE_RATING

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.library.records import JudgedPhoto


@pytest.fixture
def photos(tmp_path: Path) -> list[JudgedPhoto]:
    return judge(tmp_path / "photos", {"a.jpg": 8.4, "b.CR3": 6.6})


def apply(tmp_path: Path, *decisions: dict[str, Any], options: tuple[str, ...] = ()) -> int:
    (tmp_path / "decisions.json").write_text(json.dumps({"decisions": decisions}))
    return main(["sheet", "--apply", str(tmp_path / "decisions.json"), *options])


def decision(photo: JudgedPhoto, **values: Any) -> dict[str, Any]:
    return {"photo": photo.path, "key": photo.key, **values}


def read(path: Path) -> Packet:
    return Packet(path.read_bytes(), "x")


def test_a_decision_is_a_persons_value(tmp_path: Path, photos: list[JudgedPhoto]) -> None:
    folder = tmp_path / "photos"
    before = contents(folder)
    assert main(["stars", str(folder)]) == 0
    with_stars = contents(folder)
    assert apply(tmp_path, decision(photos[0], rating=3, pick=1), decision(photos[1], rating=0)) == 0
    packet = read(folder / "a.jpg.xmp")
    assert (packet.text(RATING), packet.text(PICK), packet.text(WROTE_RATING)) == ("3", "1", None)
    assert packet.text(SCORE) == "8.4"
    assert main(["stars", str(folder), "--cuts", "1,2,3,4"]) == 0
    assert read(folder / "a.jpg.xmp").text(RATING) == "3"
    assert read(folder / "b.xmp").text(RATING) == "0"  # no stars, and none again
    assert main(["stars", "--undo"]) == 0
    assert contents(folder) == with_stars
    assert main(["stars", "--undo"]) == 0
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("program", "pick", "wanted"),
    [
        ("auto", -1, {RATING: "-1", PICK: "-1"}),
        ("darktable", -1, {RATING: "-1", PICK: "-1"}),
        ("digikam", -1, {RATING: "4", PICK: "-1", PICK_LABEL: "1"}),
        ("digikam", 1, {RATING: "4", PICK: "1", PICK_LABEL: "3"}),
        ("auto", 1, {RATING: "4", PICK: "1"}),
        ("auto", 0, {RATING: "4", PICK: "0"}),
    ],
)
def test_flags_as_the_program_has_them(
    tmp_path: Path, photos: list[JudgedPhoto], program: str, pick: int, wanted: dict[Any, str]
) -> None:
    assert apply(tmp_path, decision(photos[0], rating=4, pick=pick), options=("--for", program)) == 0
    packet = read(tmp_path / "photos" / "a.jpg.xmp")
    assert {name: packet.text(name) for name in wanted} == wanted


def test_what_was_set_since_stays(
    tmp_path: Path, photos: list[JudgedPhoto], capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(tmp_path, decision(photos[0], rating=2)) == 0
    assert apply(tmp_path, decision(photos[0], rating=4)) == 1  # made when there were none
    assert "a.jpg: has got 2 stars since the sheet was made; they stay" in capsys.readouterr().err
    assert read(tmp_path / "photos" / "a.jpg.xmp").text(RATING) == "2"
    assert apply(tmp_path, decision(photos[0], rating=4, was=2)) == 0
    assert apply(tmp_path, decision(photos[0], rating=4, was=2)) == 0  # again: nothing to write
    assert read(tmp_path / "photos" / "a.jpg.xmp").text(RATING) == "4"


def test_a_moved_photo_is_found_by_its_content(tmp_path: Path, photos: list[JudgedPhoto]) -> None:
    gone = {**decision(photos[0], rating=1), "photo": "/nowhere/a.jpg"}
    assert apply(tmp_path, gone) == 0
    assert read(tmp_path / "photos" / "a.jpg.xmp").text(RATING) == "1"


def test_what_cannot_be_written_is_named(
    tmp_path: Path, photos: list[JudgedPhoto], capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {"photo": "/nowhere/x.jpg", "key": "00", "rating": 1}
    assert apply(tmp_path, lost, decision(photos[0], rating=1), options=("--for", "lightroom")) == 1
    err = capsys.readouterr().err
    assert "x.jpg: is not in the catalogue, or away" in err
    assert "a.jpg: Lightroom reads no sidecar of a JPG file; --embed writes into it" in err
    assert apply(tmp_path, decision(photos[0], rating=1), options=("--for", "lightroom", "--embed")) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"decisions": [{}]}',
        '{"decisions": [{"photo": "a", "key": "b", "rating": 6}]}',
        '{"decisions": 1}',
        "\ud800",
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert main(["sheet", "--apply", str(path)]) == 2
    assert "x.json: holds no decisions of a contact sheet" in capsys.readouterr().err
    assert main(["sheet", "--apply", str(tmp_path / "none.json")]) == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["{}"], "name a folder of photos, and --out"),
        (["{}", "--out", "{}/sheet"], "where 'aesedge rate' would judge its thumbnails"),
        (["{}/none", "--out", "{}/../sheet"], "no photo there is judged yet"),
    ],
)
def test_wrong_calls(
    tmp_path: Path, photos: list[JudgedPhoto], arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sheet", *(argument.format(tmp_path / "photos") for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert why in err
