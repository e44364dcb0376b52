"""AesBench's questions as its authors and VLMEvalKit distribute them, the prompts that are sent, and answer matching.

The benchmark (Huang et al. 2024, github.com/yipoh/AesBench) is the user's own copy: nothing is downloaded. Its licence
(CC BY-NC, evaluation only) forbids training with it.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.errors import UsageError
from aesedge.eval.published import EMPATHY, dimension_of
from aesedge.eval.vlmevalkit import VLMEvalKitTable, has_questions
from aesedge.system.error_text import error_text
from aesedge.system.regular_file import first_file, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
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
_NO_ANSWER = (
    "Failed to obtain answer via API",
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_OPTION = re.compile(r"^\s*([A-Z])\s*[).:]\s*(.*\S)\s*$")
_LEVEL = re.compile(r"\bwith (high|medium|low) aesthetic", re.IGNORECASE)
_MOST_BYTES = 1 << 28  # 2,800 images have 3 MB of questions


@dataclass(frozen=True)
class Item:
    """One question about one image."""

    image: str
    """Name of the image; several questions may share it."""
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
    row: str = ""
    """Name of its row in VLMEvalKit's table; empty in the official file, where an image has one question of a task."""

    @property
    def name(self) -> str:
        """Name in response files."""
        return self.row or self.image

    @property
    def key(self) -> str:
        """Name in logs."""
        return f"{self.task}:{self.name}"

    @property
    def prompt(self) -> str:
        """What the official scripts send."""
        return self.question if self.task == "AesI" else self.question + _CHOOSE + self.options_text + _AFTER[self.task]


@dataclass(frozen=True)
class Benchmark:
    """Questions, and where their images are."""

    path: Path
    """The file with the questions."""
    items: list[Item]
    source: Callable[[str], Path | bytes]
    """Returns an image, by its name, as :meth:`aesedge.Model.look` takes it."""
    problems: list[str]
    """A line for each item that cannot be used."""


def in_parts(benchmark: Benchmark, n: int) -> list[Benchmark]:
    """Return the questions in ``n`` parts, all of an image in one of them."""
    images = {image: i % n for i, image in enumerate(dict.fromkeys(item.image for item in benchmark.items))}
    return [
        replace(benchmark, items=[item for item in benchmark.items if images[item.image] == part]) for part in range(n)
    ]


def is_aesbench(path: Path) -> bool:
    """Return whether a file or folder is a copy of AesBench, and not a table of ratings."""
    if path.is_dir():
        return _file_in(path) is not None
    return path.suffix.lower() == ".json" or (path.suffix.lower() == ".tsv" and has_questions(path))


def read_aesbench(path: Path, images: Path | None = None) -> Benchmark:
    """Read the user's copy.

    Args:
        path: the official JSON file, VLMEvalKit's TSV, or a folder that holds one of them.
        images: folder of the official images; by default that of the file, or one named ``images`` in it.

    Raises:
        UsageError: there is no such file, or it is not AesBench.
    """
    if path.is_dir():
        found = _file_in(path)
        if found is None:
            raise UsageError(f"{path}: holds neither AesBench_evaluation.json nor VLMEvalKit's AesBench_VAL.tsv")
        path = found
    return _vlmevalkit(path) if path.suffix.lower() == ".tsv" else _official(path, images)


def _file_in(folder: Path) -> Path | None:
    """Return the file with the questions in a folder."""
    found = sorted([*folder.glob("*.json"), *folder.glob("*.tsv")])
    return next((file for file in found if "aesbench" in file.name.lower()), found[0] if found else None)


def _official(path: Path, images: Path | None) -> Benchmark:
    try:
        data = read_regular(path, most_bytes=_MOST_BYTES).removeprefix(codecs.BOM_UTF8)
        entries = msgspec.json.decode(data, type=dict[str, Any])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path}: is not AesBench's JSON ({error_text(error)}); name AesBench_evaluation.json"
        ) from None
    folders = [images] if images else [folder for folder in (path.parent / "images", path.parent) if folder.is_dir()]
    places: dict[str, Path] = {}
    items, problems = list[Item](), list[str]()
    for image, entry in entries.items():
        found = first_file(folder / image for folder in folders)
        if found is None:
            problems.append(
                f"{path}: {image:.200} is not in {folders[0]}; its questions are left out (--images names the folder)"
            )
            continue
        places[image] = found
        if not isinstance(entry, dict):
            problems.append(f"{path}: {image}: has no questions; left out")
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
    return Benchmark(path, items, places.__getitem__, problems)


def _item(image: str, task: Task, part: dict[str, Any], entry: dict[str, Any]) -> Item:
    question, text = part["Question"], "" if task == "AesI" else part["Options"]
    if not isinstance(question, str) or not question.strip() or not isinstance(text, str):
        raise ValueError("Question or Options is no text")
    options = parse_options(text)
    if task != "AesI" and not 2 <= len(options) <= 4:
        raise ValueError(f"{len(options)} options")
    answer = part.get("Answer") or part.get("answer")
    if task == "AesA1" and answer is None:
        answer = _level_of(entry.get("AesI_data", entry.get("AesI")))
    return Item(
        image=image,
        task=task,
        question=question,
        options=options,
        options_text=text,
        answer=_letter(answer, options),
        dimension=str(part.get("Dimension") or part.get("dimension") or ""),
        question_type=str(part.get("Type") or part.get("type") or ""),
    )


def _level_of(interpretation: Any) -> str | None:
    """Return the level that the question of interpretation states: it is the right answer of the assessment."""
    question = interpretation.get("Question") if isinstance(interpretation, dict) else None
    found = _LEVEL.search(str(question or ""))
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
    table = VLMEvalKitTable(path)
    items: list[Item] = []
    problems: list[str] = []
    names: set[str] = set()
    for row in table.rows():
        options = {letter: row.cells[letter] for letter in "ABCD" if row.cells.get(letter)}
        question = row.cells.get("question") or ""
        if not question or not row.image or len(options) < 2:
            problems.append(f"{path}, line {row.line}: has no question, image or options; left out")
            continue
        if row.name in names:
            problems.append(f"{path}, line {row.line}: the index {row.name} is there twice; left out")
            continue
        names.add(row.name)
        text = "\n".join(f"{letter}) {option}" for letter, option in options.items())
        category = row.cells.get("category") or ""
        answer = _letter(row.cells.get("answer") or None, options)
        items.append(Item(
            image=row.image, task=_task_of(category, options), question=question, options=options, options_text=text,
            answer=answer, dimension=category, question_type=row.cells.get("type") or "", row=row.name,
        ))  # fmt: skip
    if not items:
        raise UsageError(problems[0] if problems else f"{path}: has no questions")
    return Benchmark(path, items, table.picture, problems)


def _task_of(category: str, options: Mapping[str, str]) -> Task:
    """Return what a row asks about; its category is the task's name or a dimension."""
    if {option.lower() for option in options.values()} == {level.lower() for level in LEVELS}:
        return "AesA1"
    is_empathy = category.lower().startswith(("aese", "empath")) or dimension_of(category) in EMPATHY
    return "AesE" if is_empathy else "AesP"


def matched_letter(response: str, options: Mapping[str, str]) -> str | None:
    """Return the option that a response means, by VLMEvalKit's rules; None where it is not clear.

    Exactly one letter among the words, and near the end; or ``answer is **X**``; or exactly one option's text in a
    response that is not much longer than the options. Some phrases mean that there is no answer.
    """
    if any(phrase in response for phrase in _NO_ANSWER):
        return None
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", response).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and words.index(letters[0]) > len(words) - 5:
        return letters[0]
    stated = re.search(r"answer is \*\*([A-Z])\*\*", response)
    if stated and stated[1] in options:
        return stated[1]
    lower = response.lower()
    if (not letters and "Z" in words) or len(lower) > 2 * sum(map(len, options.values())):
        return None
    texts = [letter for letter, option in options.items() if option.lower() in lower]
    return texts[0] if len(texts) == 1 else None


def official_responses(items: Sequence[Item], responses: Mapping[str, str]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the content of the official response files, by file name: ``test_AesP.json`` and its siblings."""
    files: dict[str, dict[str, dict[str, str]]] = {}
    for item in items:
        if item.key in responses:
            of_task = files.setdefault(f"test_{item.task}.json", {})
            of_task[item.name] = {f"{item.task}_response": responses[item.key]}
    return files
