"""AesBench's files in both spellings, its prompts to the byte, and which option an answer means."""

from __future__ import annotations

import base64
import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from aesedge.errors import UsageError
from aesedge.eval.aesbench import (
    in_parts,
    is_aesbench,
    matched_letter,
    official_responses,
    parse_options,
    read_aesbench,
)

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {"A": "Blurred", "B": "Sharp", "C": "Sharp in places", "D": "I cannot tell"}
ENTRY = {
    "AesP_data": {"Question": "Is it sharp?", "Options": "A) Blurred\nB) Sharp\nC) Sharp in places\nD)I cannot tell"},
    "AesE_data": {"Question": "What emotion is it?", "Options": "A) Joy\nB) Calm", "Answer": "Calm"},
    "AesA1_data": {"Question": "How is the aesthetic quality of this image?", "Options": "A) High\nB) Medium\nC) Low"},
    "AesI_data": {"Question": "This is an image with medium aesthetics, please explain the reasons."},
}


def write(folder: Path, entries: dict[str, Any], *, name: str = "AesBench_evaluation.json") -> Path:
    (folder / name).write_text(json.dumps(entries), encoding="utf-8")
    for image in entries:
        (folder / image).write_bytes(b"x")
    return folder / name


@pytest.mark.parametrize("suffix", ["_data", ""])
def test_the_official_file_in_both_spellings(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, {"1.jpg": {key.replace("_data", suffix): value for key, value in ENTRY.items()}})
    for given in (path, tmp_path):
        items = {item.task: item for item in read_aesbench(given).items}
        assert list(items) == ["AesP", "AesE", "AesA1", "AesI"]
        assert items["AesP"].options == OPTIONS
        assert [items[task].answer for task in items] == [None, "B", "B", None]


def test_prompts_are_the_official_ones_to_the_byte(tmp_path: Path) -> None:
    items = {item.task: item.prompt for item in read_aesbench(write(tmp_path, {"1.jpg": ENTRY})).items}
    assert items["AesE"] == (
        "What emotion is it? Choose one from the following options:\nA) Joy\nB) Calm\n"
        "You should output a correct option without explanation."
    )
    assert items["AesA1"].endswith("\nC) Low\nYou should output a correct option.")
    assert items["AesI"] == ENTRY["AesI_data"]["Question"]


def test_what_cannot_be_asked_costs_one_line(tmp_path: Path) -> None:
    broken = {
        "AesP_data": {"Question": "Is it?"},
        "AesE_data": {"Question": "So?", "Options": "A) only one"},
        "AesA1": 3,
    }
    worse = {
        "AesP": {"Question": 3, "Options": "A) x\nB) y"},
        "AesE": {"Question": "So?", "Options": ["A) x", "B) y"]},
        "AesA1_data": {**ENTRY["AesA1_data"], "Question": " "},
        "AesI": [],
    }
    path = write(tmp_path, {"1.jpg": ENTRY, "2.jpg": broken, "3.jpg": worse, "4.jpg": None, "gone.jpg": ENTRY})
    (tmp_path / "gone.jpg").unlink()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = read_aesbench(path)
    assert {item.image for item in found.items} == {"1.jpg"}
    assert [problem.split(": ")[1] for problem in found.problems] == [
        *["2.jpg, AesP", "2.jpg, AesE", "2.jpg, AesA1"],
        *["3.jpg, AesP", "3.jpg, AesE", "3.jpg, AesA1", "3.jpg, AesI"],
        "4.jpg",
        f"gone.jpg is not in {tmp_path}; its questions are left out (--images names the folder)",
    ]


def test_a_name_that_no_system_takes_costs_one_line(tmp_path: Path) -> None:
    path = tmp_path / "AesBench_evaluation.json"
    (tmp_path / "1.jpg").write_bytes(b"x")
    path.write_text(json.dumps({"1.jpg": ENTRY, "x" * 5000: ENTRY, "a\0b": ENTRY}))
    assert [len(found) for found in (read_aesbench(path).items, read_aesbench(path).problems)] == [4, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "is not AesBench's JSON"),
        ("{", "is not AesBench's JSON"),
        ("{}", "has no questions"),
        (None, "holds neither"),
    ],
)
def test_what_is_not_aesbench_is_an_error(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        read_aesbench(tmp_path)


def write_tsv(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "AesBench_VAL.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        names = ["index", "image", "question", "A", "B", "C", "D", "answer", "category"]
        writer = csv.DictWriter(file, names, delimiter="\t", restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


PICTURES = [bytes([i]) * 100 for i in range(3)]
ROW = {"question": "Is it sharp?", "A": "Yes", "B": "No", "answer": "B"}


def row(index: int, image: bytes | str, **cells: str) -> dict[str, str]:
    sent = image if isinstance(image, str) else base64.b64encode(image).decode()
    return {"index": str(index), "image": sent, **ROW, **cells}


def test_vlmevalkit_s_table(tmp_path: Path) -> None:
    levels = {"A": "High", "B": "Medium", "C": "Low", "answer": "C"}
    rows = [
        row(7, PICTURES[0], category="AesP"),
        row(8, PICTURES[1], **levels),
        row(9, "?"),
        row(10, PICTURES[1], category="Emotion"),
        row(11, PICTURES[2], category="AesE", answer="Yes"),
        row(11, PICTURES[2]),
    ]
    path = write_tsv(tmp_path, rows)
    found = read_aesbench(tmp_path)
    assert [(item.name, item.task, item.answer, item.dimension) for item in found.items] == [
        ("7", "AesP", "B", "AesP"),
        ("8", "AesA1", "C", ""),
        ("10", "AesE", "B", "Emotion"),
        ("11", "AesE", "A", "AesE"),
    ]
    assert found.problems == [
        f"{path}, line 4: has no question, image or options; left out",
        f"{path}, line 7: the index 11 is there twice; left out",
    ]


def test_pictures_that_rows_share_are_one_and_come_in_any_order(tmp_path: Path) -> None:
    rows = [row(1, "2"), row(2, PICTURES[0]), row(3, PICTURES[1]), row(4, PICTURES[0]), row(5, "3"), row(6, "9")]
    found = read_aesbench(write_tsv(tmp_path, rows))
    images = {item.name: item.image for item in found.items}
    assert images == {"1": "2", "2": "2", "3": "3", "4": "2", "5": "3"}
    for image in ("3", "2", "2", "3"):
        assert found.source(image) == PICTURES[int(image) - 2]
    assert len(found.problems) == 1


@pytest.mark.parametrize("content", [b"", b"index\n", b"question\tA\n\xff\t1\n", b"question\tA\tB\n\0"])
def test_a_table_of_vlmevalkit_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.tsv[:,] "):
        read_aesbench(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b"{}", True),
        ("a.tsv", b"index\tquestion\n", True),
        ("a.tsv", b"file\tmos\n", False),
        ("a.csv", b"question,file,mos\n", False),
        ("none.tsv", None, False),
    ],
)
def test_questions_are_told_from_ratings(tmp_path: Path, name: str, content: bytes | None, expected: bool) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert is_aesbench(tmp_path / name) == expected


def test_parts_keep_the_questions_of_an_image_together(tmp_path: Path) -> None:
    found = read_aesbench(write(tmp_path, {f"{i}.jpg": ENTRY for i in range(5)}))
    parts = in_parts(found, 3)
    assert [len(part.items) for part in parts] == [8, 8, 4]
    assert sorted(item.key for part in parts for item in part.items) == sorted(item.key for item in found.items)
    assert not {i.image for i in parts[0].items} & {i.image for i in parts[1].items}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A) x\nB) y", {"A": "x", "B": "y"}),
        ("A)x\r\nB. y\nC: z z", {"A": "x", "B": "y", "C": "z z"}),
        ("A) What (now)?\nB) A) twice", {"A": "What (now)?", "B": "A) twice"}),
        ("none", {}),
    ],
)
def test_options_of_any_spelling(text: str, expected: dict[str, str]) -> None:
    assert parse_options(text) == expected


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("B) Sharp", "B"),
        ("(B).", "B"),
        ("The answer is B", "B"),
        ("**Answer**: {B}", "B"),
        ("Sharp", "B"),
        ("sharp in places", None),  # two options' texts are in it
        ("It is blurred.", "A"),
        ("A or B", None),
        ("Either A or B, but the answer is **B**", "B"),
        ("A photo like this one is simply not easy to judge at all", None),  # the article, far from the end
        ("A photo that is blurred in all of its parts", "A"),  # then its text counts
        ("A sharp photo of a street in the evening", "B"),
        ("A, B and C are all wrong. The answer is **D**", "D"),
        ("answer is **E**, blurred", "A"),
        ("B B B", "B"),
        ("Z", None),
        ("Z, blurred", None),
        ("Cannot determine the answer B", None),
        ("I'm sorry, but without the image provided I say B", None),
        ("B\n\nbecause it is", "B"),
        ("B because it is in focus everywhere", None),  # far from the end
        ("A/B", None),
        ("\uff22", None),
        ("E", None),
        ("", None),
        ("b", None),
        ("I cannot tell whether it is, or what it might be, and so on, and so on, and so on, and so on, and on", None),
    ],
)
def test_awkward_answers_mean_what_vlmevalkit_takes_them_for(response: str, letter: str | None) -> None:
    assert matched_letter(response, OPTIONS) == letter


def test_responses_go_into_the_official_files(tmp_path: Path) -> None:
    items = read_aesbench(write(tmp_path, {"1.jpg": ENTRY, "2.jpg": ENTRY})).items
    responses = {item.key: f"{item.task} of {item.image}" for item in items if item.image == "1.jpg"}
    assert official_responses(items, responses) == {
        f"test_{task}.json": {"1.jpg": {f"{task}_response": f"{task} of 1.jpg"}}
        for task in ("AesP", "AesE", "AesA1", "AesI")
    }
