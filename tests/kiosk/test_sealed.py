"""No packet leaves, no name is asked for, no file is written; plain Chromium in the same place is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, MARKS

ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "-nm"] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["unshare", "-rnm"]


def why_not() -> str:
    if CHROMIUM is None:
        return "chromium is not installed"
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "unshare or ip is not installed"
    tried = subprocess.run(
        [*UNSHARE, "ip", "link", "add", "out", "type", "veth", "peer", "name", "recorder"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"no network of its own can be made here: {tried.stderr.strip()}"


pytestmark = [*MARKS, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")]


def seen(mode: str, folder: Path, seconds: float) -> dict[str, Any]:
    command = [*UNSHARE, sys.executable, str(ROOT / "tests" / "measure" / "measure_sealed.py")]
    done = subprocess.run(
        [*command, mode, str(folder), str(seconds)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}"},
    )
    said = folder / "said.txt"
    assert done.returncode == 0, done.stderr + (said.read_text() if said.is_file() else "")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_plain_chromium_is_seen(tmp_path: Path) -> None:
    found = seen("control", tmp_path, 8)
    assert found["names"]
    assert found["packets"]


def test_the_kiosk_says_nothing_and_writes_nothing(tmp_path: Path) -> None:
    found = seen("kiosk", tmp_path, 5)
    assert (found["names"], found["packets"]) == ([], [])
    assert len(found["scores"]) == 2
    assert set(found["written"]) <= {".cache/aesedge/hashes.json"}  # of the model's files, so that they are read once
    assert found["profile_was_there"]
    assert not found["profile_is_left"]


@pytest.mark.parametrize("disk", ["read-only", "full"])
def test_no_disk_is_needed(tmp_path: Path, disk: str) -> None:
    found = seen(disk, tmp_path, 0)
    assert len(found["scores"]) == 2
