"""Tables of ratings are read as their publishers wrote them; a row that cannot be used costs one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from aesedge.errors import UsageError
from aesedge.eval.ratings_table import read_ratings

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["a.jpg", "ä b.jpg", "3.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in [*NAMES, "P1/a.jpg", "images/4.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def opinions(folder: Path, text: str, *, encoding: str = "utf-8", name: str = "t.csv") -> dict[str, float]:
    (folder / name).write_bytes(text.encode(encoding))
    found = read_ratings(folder / name)
    assert found.problems == []
    return {photo.name: round(photo.opinion, 6) for photo in found.photos}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_delimiter_and_encoding(folder: Path, encoding: str, delimiter: str) -> None:
    rows = [("file", "mos"), ("a.jpg", "50"), ("ä b.jpg", "82.5"), ("3.jpg", "0")]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert opinions(folder, text, encoding=encoding) == {"a.jpg": 5, "ä b.jpg": 8.25, "3.jpg": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image_name,c1,c5,MOS,SD,MOS_zscore\na.jpg,0,9,4.2,.1,70\n3.jpg,3,1,1.0,.1,2\n", [8, 0]),  # KonIQ-10k
        ("Image name,MOS,Brightness\na.jpg,61.5,3\n3.jpg,12,4\n", [6.15, 1.2]),  # SPAQ
        ("image,score\na.jpg,6.5\n3.jpg,2\n", [6.5, 2]),  # TAD66K
        ("file;mos\na.jpg;4,5\n3.jpg;1,0\n", [8.75, 0]),  # a decimal comma
        ('"file","mos"\n"a.jpg","0.25"\n"3.jpg","1"\n', [2.5, 10]),
        ("file,mos\n\na.jpg,1\n,\n3.jpg,5\n", [0, 10]),
        ("image name;mean score of all\na.jpg;4,5\n3.jpg;1,0\n", None),
        ("file;mos;MOS (1,0 to 5,0), all\na.jpg;4,5;x\n3.jpg;1,0;x\n", [8.75, 0]),
        ("file|mos\na.jpg|3\n3.jpg|5\n", [5, 10]),
        ("file mos\na.jpg 3\n3.jpg 5\n", [5, 10]),
        ('file,mos,note\na.jpg,"4,5","a; b; c\nd"\n3.jpg,1,\n', [8.75, 0]),
        ("file,mos\n.\\a.jpg,3\nP1\\a.jpg,5\n", [5, 10]),  # as Windows writes paths
    ],
)
def test_the_columns_of_public_sets_and_their_scales(folder: Path, text: str, expected: list[float] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="name one of image name, mean score of all with --score-column"):
            opinions(folder, text)
    else:
        assert list(opinions(folder, text).values()) == expected


def test_para_s_pictures_lie_in_folders(folder: Path) -> None:
    assert opinions(folder, "sessionId,imageName,aestheticScore_mean\nP1,a.jpg,3\n") == {"P1/a.jpg": 5}


def test_ava_s_votes_are_averaged(folder: Path) -> None:
    text = "1 3 0 0 0 0 0 0 0 0 0 10 1 2 5\n2 4 5 0 0 0 0 0 0 0 5 0 1 2 5\n"
    assert opinions(folder, text, name="AVA.txt") == {"3.jpg": 10, "4.jpg": 5}


def test_parquet(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"file": ["a.jpg"], "mos": [72.0]}), folder / "t.parquet")
    assert read_ratings(folder / "t.parquet").photos[0].opinion == pytest.approx(7.2)
    (folder / "u.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match=r"u\.parquet: is no Parquet file"):
        read_ratings(folder / "u.parquet")


def test_live_in_the_wild_as_it_comes(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    (tmp_path / "Data").mkdir()
    (tmp_path / "Images").mkdir()
    names = [*(f"t{i}.bmp" for i in range(1, 8)), "10.bmp", "3.JPG"]
    cells = np.array(names, dtype=object).reshape(-1, 1)
    io.savemat(tmp_path / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    io.savemat(tmp_path / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.arange(10.0, 100, 10)[None]})
    for name in names:
        (tmp_path / "Images" / name).write_bytes(b"x")
    found = read_ratings(tmp_path)
    assert [(photo.name, photo.opinion) for photo in found.photos] == [("10.bmp", 8.0), ("3.JPG", 9.0)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("gone.jpg,5", "line 4: gone.jpg is not in"),
        ("x" * 5000 + ".jpg,5", "line 4: xxx"),
        ("P1,5", "line 4: P1 is not in"),
        ("a.jpg,7", "line 4: a.jpg is there twice (first in"),
        ("./a.jpg,7", "line 4: ./a.jpg is there twice (first in"),
        ("ä b.jpg,good", "line 4: 'good' is no score"),
        ("ä b.jpg,", "line 4: '' is no score"),
        ("ä b.jpg,nan", "line 4: 'nan' is no score"),
        (",5", "line 4: names no picture"),
        ("ä b.jpg", "line 4: '' is no score"),
    ],
)
def test_a_bad_row_costs_one_line_and_nothing_else(folder: Path, row: str, said: str) -> None:
    (folder / "t.csv").write_text(f"file,mos\na.jpg,1\n3.jpg,9\n{row}\n", encoding="utf-8")
    found = read_ratings(folder / "t.csv")
    assert [photo.name for photo in found.photos] == ["a.jpg", "3.jpg"]
    (problem,) = found.problems
    assert said in problem
    assert problem.endswith("left out")


def test_a_scale_that_is_given_bounds_the_scores(folder: Path) -> None:
    (folder / "t.csv").write_text("file,mos\na.jpg,1\n3.jpg,9\n", encoding="utf-8")
    found = read_ratings(folder / "t.csv", scale=(1, 5))
    assert [(photo.name, photo.opinion) for photo in found.photos] == [("a.jpg", 0)]
    assert "the score 9 is not between 1 and 5" in found.problems[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\r\n \r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"PK\x03\x04 xlsx", "is no text, but a spreadsheet"),
        (b"\xff\xd8\xff\xe0 photo", "is no text, but a spreadsheet"),
        (b"file,mos\na.jpg,good\n", "no row can be used: "),
        (b"picture_of_it,x\na.jpg,1\n", "no column file or image or image_name or imagename; name one of"),
        (b"file,mos\ngone.jpg,1\n", "no row can be used: "),
        (b"file,mos\na.jpg,-5\n3.jpg,900\n", "scores from -5 to 900; say what they are out of with --scale LOW:HIGH"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(folder: Path, content: bytes, said: str) -> None:
    (folder / "t.csv").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_ratings(folder / "t.csv")
    assert str(caught.value).startswith(f"{folder / 't.csv'}: ")
    assert said in str(caught.value)


def test_a_table_that_is_huge_is_an_error(folder: Path) -> None:
    with (folder / "t.csv").open("wb") as file:
        file.truncate(1 << 28)  # takes no room on the disk
    with pytest.raises(UsageError, match="is longer than"):
        read_ratings(folder / "t.csv")


def test_what_is_no_table_is_an_error(folder: Path) -> None:
    for path in (folder, folder / "none.csv"):
        with pytest.raises(UsageError, match=str(path)):
            read_ratings(path)
