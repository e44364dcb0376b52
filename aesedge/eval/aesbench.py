"""AesBench's questions as its authors and VLMEvalKit distribute them, the prompts that are sent, and answer matching.

The benchmark (Huang et al. 2024, github.com/yipoh/AesBench) is the user's own copy: nothing is downloaded. Its licence
(CC BY-NC, evaluation only) forbids training with it.
"""

from __future__ import annotations

import base64
import binascii
import csv
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.errors import UsageError
from aesedge.system.regular_file import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Task = Literal["AesP", "AesE", "AesA1", "AesI"]
TASKS: tuple[Task, ...] = ("AesP", "AesE", "AesA1", "AesI")
"""Perception, empathy, assessment, interpretation."""
LEVELS = ("High", "Medium", "Low")
_CHOOSE = " Choose one from the following options:\n"
_AFTER: dict[Task, str] = {
    "AesP": "\nYou should output a correct option without explanation.",
    "AesE": "\nYou should output a correct option without explanation.",
    "AesA1": "\nYou should output a correct option.",
}
_OPTION = re.compile(r"^\s*([A-Z])\s*[).:]\s*(.*\S)\s*$")
_LEVEL = re.compile(r"\bwith (high|medium|low) aesthetic", re.IGNORECASE)
_MOST_BYTES = 4 << 30  # VLMEvalKit's test file has 3 GB of pictures


@dataclass(frozen=True)
class Item:
    """One question about one image."""

    image: str
    """File name; with VLMEvalKit's table the name of its row."""
    task: Task
    question: str
    options: dict[str, str]
    """Letter to text; empty for interpretation."""
    options_text: str
    """As it is sent."""
    answer: str | None = None
    """The right letter, where it is known."""
    dimension: str = ""
    """Technical quality, emotion and so on, where it is known."""
    question_type: str = ""
    """Yes-No, What, How or Why, where it is known."""

    @property
    def key(self) -> str:
        """Name in logs."""
        return f"{self.task}:{self.image}"

    @property
    def prompt(self) -> str:
        """What the official scripts send."""
        return self.question if self.task == "AesI" else self.question + _CHOOSE + self.options_text + _AFTER[self.task]


@dataclass(frozen=True)
class Benchmark:
    """Questions, and where their images are."""

    items: list[Item]
    folder: Path | None
    """Of the images."""
    pictures: Mapping[str, bytes]
    """Image name to an image file, where the table holds them."""
    problems: list[str]
    """A line for each item that cannot be used."""

    def source(self, image: str) -> Path | bytes:
        """Return an image as :meth:`aesedge.Model.look` takes it."""
        if image in self.pictures:
            return self.pictures[image]
        assert self.folder is not None  # noqa: S101 (for mypy)
        return self.folder / image


def read_aesbench(path: Path, images: Path | None = None) -> Benchmark:
    """Read the user's copy.

    Args:
        path: the official JSON file, VLMEvalKit's TSV, or a folder that holds one of them.
        images: folder of the official images; by default that of the file, or one named ``images`` in it.

    Raises:
        UsageError: there is no such file, or it is not AesBench.
    """
    if path.is_dir():
        found = sorted([*path.glob("*.json"), *path.glob("*.tsv")])
        found = [file for file in found if "aesbench" in file.name.lower()] or found
        if not found:
            raise UsageError(f"{path}: holds neither AesBench_evaluation.json nor VLMEvalKit's AesBench_VAL.tsv")
        path = found[0]
    if path.suffix.lower() == ".tsv":
        return _vlmevalkit(path)
    return _official(path, images)


def _official(path: Path, images: Path | None) -> Benchmark:
    try:
        entries = msgspec.json.decode(read_regular(path, most_bytes=_MOST_BYTES), type=dict[str, dict[str, Any]])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: is not AesBench's JSON ({error}); name AesBench_evaluation.json") from None
    folder = images or next((f for f in (path.parent / "images", path.parent) if f.is_dir()), path.parent)
    items, problems = [], []
    for image, entry in entries.items():
        if not (folder / image).is_file():
            problems.append(
                f"{path}: {image} is not in {folder}; its questions are left out (--images names the folder)"
            )
            continue
        for task in TASKS:
            part = entry.get(f"{task}_data", entry.get(task))
            if part is None:
                continue
            try:
                items.append(_item(image, task, part, entry))
            except (KeyError, TypeError, ValueError) as error:
                problems.append(f"{path}: {image}, {task}: has no question that can be asked ({error}); left out")
    if not items:
        raise UsageError(problems[0] if problems else f"{path}: has no questions of AesBench")
    return Benchmark(items, folder, {}, problems)


def _item(image: str, task: Task, part: dict[str, Any], entry: dict[str, Any]) -> Item:
    text = "" if task == "AesI" else part["Options"]
    options = parse_options(text)
    if task != "AesI" and not 2 <= len(options) <= 4:
        raise ValueError(f"{len(options)} options")
    answer = part.get("Answer") or part.get("answer")
    if task == "AesA1" and answer is None:
        answer = _level_of(entry.get("AesI_data", entry.get("AesI")))
    return Item(
        image=image,
        task=task,
        question=part["Question"],
        options=options,
        options_text=text,
        answer=_letter(answer, options),
        dimension=str(part.get("Dimension") or part.get("dimension") or ""),
        question_type=str(part.get("Type") or part.get("type") or ""),
    )


def _level_of(interpretation: dict[str, Any] | None) -> str | None:
    """Return the level that the question of interpretation states: it is the right answer of the assessment."""
    found = _LEVEL.search(str((interpretation or {}).get("Question", "")))
    return found[1].capitalize() if found else None


def _letter(answer: Any, options: Mapping[str, str]) -> str | None:
    """Return the letter of an answer that is given as a letter or as the text of an option."""
    if answer is None:
        return None
    text = str(answer).strip()
    if text[:1].upper() in options and (len(text) == 1 or not text[1].isalnum()):
        return text[0].upper()
    return next((letter for letter, option in options.items() if option.lower() == text.lower()), None)


def parse_options(text: str) -> dict[str, str]:
    """Return letter to text of options that stand on a line each: ``A) High``; the space is often left out."""
    found = (_OPTION.match(line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def _vlmevalkit(path: Path) -> Benchmark:
    items: list[Item] = []
    pictures: dict[str, bytes] = {}
    problems: list[str] = []
    for number, row in _tsv(path):
        name, question = row.get("index") or str(number), row.get("question") or ""
        options = {letter: row[letter] for letter in "ABCD" if row.get(letter)}
        try:
            pictures[name] = base64.b64decode(row.get("image") or "", validate=True)
        except binascii.Error:
            pictures[name] = b""
        if not question or not pictures[name] or len(options) < 2:
            problems.append(f"{path}, line {number}: has no question, image or options; left out")
            continue
        category = row.get("category") or ""
        text = "\n".join(f"{letter}) {option}" for letter, option in options.items())
        is_assessment = {o.lower() for o in options.values()} == {level.lower() for level in LEVELS}
        task: Task = "AesA1" if is_assessment else "AesE" if "emp" in category.lower() else "AesP"
        answer = _letter(row.get("answer") or None, options)
        items.append(Item(name, task, question, options, text, answer, category, row.get("type") or ""))
    if not items:
        raise UsageError(problems[0] if problems else f"{path}: has no questions")
    return Benchmark(items, None, pictures, problems)


def _tsv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as VLMEvalKit's table: {error}") from None


def matched_letter(response: str, options: Mapping[str, str]) -> str | None:
    """Return the option that a response means, by VLMEvalKit's rules; None where it is not clear.

    Exactly one letter among the words, and near the end; or ``answer is **X**``; or exactly one option's text in a
    response that is not much longer than the options.
    """
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", response).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1:
        return letters[0] if words.index(letters[0]) > len(words) - 5 else None
    if letters:
        stated = re.search(r"answer is \*\*([A-Z])\*\*", response)
        return stated[1] if stated and stated[1] in options else None
    lower = response.lower()
    if len(lower) > 2 * sum(map(len, options.values())):
        return None
    texts = [letter for letter, option in options.items() if option.lower() in lower]
    return texts[0] if len(texts) == 1 else None


def official_responses(items: Sequence[Item], responses: Mapping[str, str]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the content of the official response files, by file name: ``test_AesP.json`` and its siblings."""
    files: dict[str, dict[str, dict[str, str]]] = {}
    for item in items:
        if item.key in responses:
            of_task = files.setdefault(f"test_{item.task}.json", {})
            of_task[item.image] = {f"{item.task}_response": responses[item.key]}
    return files
