"""Commands as users type them, in process: against the tiny bundle, with what they send to stdin, on drawn photos."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import drawn_photo

from aesedge.cli import main

if TYPE_CHECKING:
    from pathlib import Path

START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from aesedge.cli import main
sys.exit(main())
"""
"""Runs a command that obeys Ctrl-C wherever it was started: shells start background processes that ignore it."""


class Cli:
    """Runs commands as a user would type them, against the tiny bundle."""

    def __init__(self, capsys: pytest.CaptureFixture[str], bundle: Path) -> None:
        self._capsys = capsys
        self._bundle = bundle

    def __call__(self, command: str, *arguments: object, load: bool = True) -> tuple[int, str, str]:
        chosen = ["--bundle", self._bundle, "--threads", "1"] if load else []
        code = main([command, *map(str, chosen), *map(str, arguments)])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    send(monkeypatch, b"")
    return Cli(capsys, bundle_folder)


def send(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    monkeypatch.setattr(stdin, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)


def photos(folder: Path, n: int) -> list[Path]:
    paths = [folder / f"photo {i}.png" for i in range(n)]
    for seed, path in enumerate(paths):
        drawn_photo(seed).save(path)
    return paths
