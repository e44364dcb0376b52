"""Ctrl-C on the real command, in a process of its own: it ends, says nothing long, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_runner import START

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("arguments", [["score", "--no-attributes"], ["run", "--max-tokens", "200"]])
def test_ctrl_c_ends_the_command(bundle_folder: Path, photo_path: Path, tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-c", START, *arguments, "--json", "--threads", "1", "--bundle", bundle_folder]
    before = set(tmp_path.rglob("*"))
    process = subprocess.Popen(
        [*command, *[photo_path] * 3000],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AESEDGE_CACHE": str(tmp_path)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    for line in [first, *out.splitlines()]:
        json.loads(line)  # no half line
    left = set(tmp_path.rglob("*")) - before
    assert not [path for path in left if path.suffix in {".part", ".alive"}]  # what is whole may stay
