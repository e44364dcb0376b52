"""Foreign text made safe to show, and Git LFS pointers told from files."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

import pytest

from aesedge.errors import CheckpointError, ImageError
from aesedge.image import read_image
from aesedge.system.git_lfs import is_git_lfs_pointer, refuse_git_lfs_pointer
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"


@pytest.mark.parametrize(
    ("text", "one_line"),
    [
        ("новый 📷.jpg", "новый 📷.jpg"),
        ("写真　一枚.jpg", "写真　一枚.jpg"),  # with the space of its script
        ("Screenshot at 10.00.00\u202fAM.png", "Screenshot at 10.00.00\u202fAM.png"),  # as macOS writes them
        ("👨\u200d👩\u200d👧.jpg", "👨\u200d👩\u200d👧.jpg"),
        ("cafe\u0301.jpg", "cafe\u0301.jpg"),
        ("back\\slash.jpg", "back\\slash.jpg"),
        ("line\nbreak.jpg", "line\\nbreak.jpg"),
        ("tab\tx.jpg", "tab\\tx.jpg"),
        ("return\rx.jpg", "return\\rx.jpg"),
        ("esc\x1b[31mred.jpg", "esc\\x1b[31mred.jpg"),
        ("title\x1b]0;owned\x07.jpg", "title\\x1b]0;owned\\x07.jpg"),
        ("null\0.jpg", "null\\x00.jpg"),
        ("delete\x7f.jpg", "delete\\x7f.jpg"),
        ("c1\x9b31m\x85.jpg", "c1\\x9b31m\\x85.jpg"),
        ("gpj.\u202egpj.exe", "gpj.\\u202egpj.exe"),
        ("isolate\u2066x\u2069.jpg", "isolate\\u2066x\\u2069.jpg"),
        ("marks\u200e\u200f\u061c.jpg", "marks\\u200e\\u200f\\u061c.jpg"),
        ("nothing\u200bto\ufeffsee\u00ad.jpg", "nothing\\u200bto\\ufeffsee\\xad.jpg"),
        ("separators\u2028\u2029.jpg", "separators\\u2028\\u2029.jpg"),
        ("tags\U000e0041.jpg", "tags\\U000e0041.jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
        ("lone\ud800.jpg", "lone\\ud800.jpg"),
        ("", ""),
    ],
)
def test_names_are_one_line_that_steers_nothing(text: str, one_line: str) -> None:
    assert sanitize(text) == one_line
    sanitize(text).encode()


def test_text_of_several_lines_keeps_them() -> None:
    assert sanitize("a\r\n\tb\n\x1b[2Jc\rd", lines=True) == "a\n\tb\n\\x1b[2Jc\\rd"


def test_no_control_or_format_character_is_left() -> None:
    left = {c for c in map(chr, range(0x110000)) if c in sanitize(c) and unicodedata.category(c) in {"Cc", "Cs"}}
    assert left == set()
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B"}
    assert not [c for c in map(chr, range(0x110000)) if c in sanitize(c) and unicodedata.bidirectional(c) in bidi]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (POINTER, True),
        (b"version https://git-lfs.github.com/spec/v2\n", True),
        (b"version https://hawser.github.com/spec/v1\n", True),
        (b"version https://git-lfs.github.com/", False),
        (b"GGUF" + POINTER, False),
        (b"", False),
    ],
)
def test_git_lfs_pointers(start: bytes, *, expected: bool, tmp_path: Path) -> None:
    assert is_git_lfs_pointer(start) is expected
    path = tmp_path / "model.bin"
    path.write_bytes(start)
    if expected:
        with pytest.raises(CheckpointError, match=r"model.bin: is a Git LFS pointer.*git lfs pull"):
            refuse_git_lfs_pointer(path, CheckpointError)
    else:
        refuse_git_lfs_pointer(path, CheckpointError)


def test_what_is_no_file_is_no_pointer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none", tmp_path, tmp_path / ("a" * 300), tmp_path / "\0"):
        refuse_git_lfs_pointer(path, CheckpointError)


def test_a_photo_that_is_a_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(POINTER)
    for source in (path, POINTER):
        with pytest.raises(ImageError, match=r"is a Git LFS pointer.*git lfs pull"):
            read_image(source)
