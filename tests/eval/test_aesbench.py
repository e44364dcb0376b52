"""AesBench's files in both spellings, its prompts to the byte, and which option an answer means."""

from __future__ import annotations

import base64
import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from aesedge.errors import UsageError
from aesedge.eval.aesbench import matched_letter, official_responses, parse_options, read_aesbench

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
    path = write(tmp_path, {"1.jpg": ENTRY, "2.jpg": broken, "gone.jpg": ENTRY})
    (tmp_path / "gone.jpg").unlink()
    found = read_aesbench(path)
    assert {item.image for item in found.items} == {"1.jpg"}
    assert [problem.split(": ")[1] for problem in found.problems] == [
        *["2.jpg, AesP", "2.jpg, AesE", "2.jpg, AesA1"],
        f"gone.jpg is not in {tmp_path}; its questions are left out (--images names the folder)",
    ]


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


def test_vlmevalkit_s_table(tmp_path: Path) -> None:
    picture = base64.b64encode(b"picture").decode()
    rows = [
        {
            "index": "7",
            "image": picture,
            "question": "Is it sharp?",
            "A": "Yes",
            "B": "No",
            "answer": "B",
            "category": "AesP",
        },
        {"index": "8", "image": picture, "question": "Which?", "A": "High", "B": "Medium", "C": "Low", "answer": "C"},
        {"index": "9", "image": "?", "question": "Broken?", "A": "Yes", "B": "No", "answer": "A"},
    ]
    with (tmp_path / "AesBench_VAL.tsv").open("w", newline="", encoding="utf-8") as file:
        names = ["index", "image", "question", "A", "B", "C", "D", "answer", "category"]
        writer = csv.DictWriter(file, names, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    found = read_aesbench(tmp_path)
    assert [(item.task, item.answer, item.dimension) for item in found.items] == [
        ("AesP", "B", "AesP"),
        ("AesA1", "C", ""),
    ]
    assert found.source("7") == b"picture"
    assert found.problems == [f"{tmp_path / 'AesBench_VAL.tsv'}, line 4: has no question, image or options; left out"]


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
