"""What the terminal shows: whole words, no control characters of others, tables and bars."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from aesedge.cli.terminal import WordWriter, bar, print_error, table

if TYPE_CHECKING:
    import pytest


def test_words_are_not_cut_at_the_end_of_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 5)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    writer = WordWriter("  ")
    text = "The photograph is sharp and well exposed.\nBut tilted."
    for i in range(0, len(text), 3):
        writer.write(text[i : i + 3])
    writer.close()
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) < 20 for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert all(line.startswith("  ") for line in lines)


def test_neither_models_nor_file_names_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    writer = WordWriter()
    writer.write("red \x1b[31m bell \a")
    writer.close()
    print_error("name\x1b]0;title\x07.jpg: bad")
    out, err = capsys.readouterr()
    assert not {"\x1b", "\a"} & set(out + err)


def test_tables_and_bars() -> None:
    assert table([["a", "1.5"], ["bcd", "10"]]).splitlines() == ["a    1.5", "bcd   10"]
    assert len(bar(1.0)) == 20
    assert bar(0.0) == ""
