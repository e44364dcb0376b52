"""Fixtures of ``eval``: its commands against the tiny bundle, and a table of drawn photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_runner import photos

from aesedge.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], bundle_folder: Path) -> Callable[..., tuple[int, str, str]]:
    def call(command: str, *arguments: object, bundle: Path = bundle_folder) -> tuple[int, str, str]:
        given = [str(argument) for argument in arguments]
        code = main(["eval", command, "--bundle", str(bundle), "--threads", "1", *given])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


@pytest.fixture
def table(tmp_path: Path) -> Path:
    paths = photos(tmp_path, 7)
    path = tmp_path / "ratings.csv"
    path.write_text("file,mos\n" + "".join(f"{p.name},{20 + 7 * i}\n" for i, p in enumerate(paths)))
    return path
