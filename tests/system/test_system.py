"""Foreign text made safe to show and to be JSON, errors in plain words, bounds, Git LFS pointers told from files."""

from __future__ import annotations

import json
import math
import os
import threading
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from aesedge.config.options import Options
from aesedge.engine.generation_options import GenerationOptions
from aesedge.errors import CheckpointError, ImageError, UsageError
from aesedge.image import read_image
from aesedge.llm import Sampling
from aesedge.system.atomic_file import write_atomic
from aesedge.system.error_text import error_text
from aesedge.system.git_lfs import is_git_lfs_pointer, refuse_git_lfs_pointer
from aesedge.system.json_line import json_line, name_bytes, safe_json
from aesedge.system.machine import most_threads
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "caf\xe9 \U0001f4f7.jpg", "a\nb", "\x1b[31m", "\x9b\x85\x7f", "\u202e\u2028\u2066", "\U000e0041", '"\\'],
)
def test_json_lines_keep_every_name_and_steer_nothing(name: str) -> None:
    for ascii_only in (False, True):
        line = json_line({name: [name]}, ascii_only=ascii_only)
        assert json.loads(line) == {name: [name]}
        assert line.isprintable()
        assert len(line.splitlines()) == 1
    assert line.isascii()
    assert name_bytes(name) is None


def test_indented_json_stays_json_in_ascii() -> None:
    value = {"café 📷": ["\x9b", {"±": "a\nb\u2028"}]}
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for ascii_only in (False, True):
        safe = safe_json(text, ascii_only=ascii_only)
        assert (json.loads(safe), safe.count("\n")) == (value, text.count("\n"))
        assert all(c.isprintable() or c == "\n" for c in safe)
    assert safe.isascii()


def test_json_lines_say_the_bytes_of_names_that_are_not_utf_8() -> None:
    name = os.fsdecode(b"caf\xe9 %\n.jpg")
    assert json.loads(json_line({"photo": name, "n": 1.5})) == {"photo": "caf\\xe9 %\n.jpg", "n": 1.5}
    assert unquote_to_bytes(name_bytes(name) or "") == b"caf\xe9 %\n.jpg"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("broken PNG file (chunk b'IDAT')"), "broken PNG file (chunk IDAT)"),
        (ValueError("magic b'\\x00\\xff' is wrong"), "magic 0x00ff is wrong"),
        (ValueError('magic b"it\'s"'), "magic it's"),
        (ValueError("bytearray(b'ab') is short"), "ab is short"),
        (ValueError("cannot identify image file <_io.BytesIO object at 0x7f1c2>"), "cannot identify image file"),
        (ValueError("two\nlines \x1b[31m"), "two lines \\x1b[31m"),
        (OSError(28, "No space left on device", "/a"), "No space left on device"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 500), "x" * 200),
    ],
)
def test_errors_of_libraries_are_plain_words(error: Exception, text: str) -> None:
    assert error_text(error) == text


@pytest.mark.parametrize(
    "choose",
    [
        lambda: Options(threads=10_000),
        lambda: Options(threads=most_threads() + 1),
        lambda: Options(threads=0),
        lambda: Options(threads=-1),
        lambda: Options(threads=True),
        lambda: Options(threads=2.5),  # type: ignore[arg-type]
        lambda: Options(threads="4"),  # type: ignore[arg-type]
        lambda: Options(ctx=10**12),
        lambda: Options(ctx=0),
        lambda: Options(image_tokens=10**12),
        lambda: Options(image_tokens=-4),
        lambda: Options(photos=0),
        lambda: Options(gpu_layers=-2),
        lambda: Options(gpu_layers=10**9),
        lambda: Options(cache="much"),
        lambda: Options(cache="101%"),
        lambda: GenerationOptions(max_tokens=0),
        lambda: GenerationOptions(max_tokens=10**12),
        lambda: GenerationOptions(deadline=0.0),
        lambda: GenerationOptions(deadline=math.nan),
        lambda: GenerationOptions(deadline=math.inf),
        lambda: Sampling(temperature=math.nan),
        lambda: Sampling(temperature=math.inf),
        lambda: Sampling(temperature=-0.1),
        lambda: Sampling(top_p=0.0),
        lambda: Sampling(top_p=math.nan),
        lambda: Sampling(min_p=1.1),
        lambda: Sampling(top_k=2**31),
        lambda: Sampling(seed=-1),
        lambda: Sampling(seed=2**32 - 1),
        lambda: Sampling(seed=1.5),  # type: ignore[arg-type]
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_loaded(choose: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        choose()


def test_numbers_at_their_bounds_are_taken() -> None:
    Options(threads=most_threads(), ctx=1, gpu_layers=-1, image_tokens="auto", cache="0")
    Options(threads=1, gpu_layers=10_000, ctx=1 << 20, photos=1)
    Options(threads=np.int64(1))  # type: ignore[arg-type]
    GenerationOptions(max_tokens=1 << 20, deadline=86_400)
    Sampling(temperature=10, top_p=1, min_p=0, top_k=0, seed=2**32 - 2)


def test_a_file_is_written_whole_a_device_stays_a_device_a_link_a_link(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    device = Path(f"/dev/fd/{write_end}") if Path("/dev/fd").exists() else None
    target, link = tmp_path / "file", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert (link.is_symlink(), target.read_bytes()) == (True, b"new")
    if device is not None:
        write_atomic(device, b"through the pipe")
        assert os.read(read_end, 100) == b"through the pipe"
    os.close(read_end)
    os.close(write_end)
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=(tmp_path / "pipe").read_bytes)
    reader.start()
    write_atomic(tmp_path / "pipe", b"x")
    reader.join(timeout=10)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]
