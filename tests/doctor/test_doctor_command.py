"""The command ``doctor``: what it prints and returns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from cli_runner import START

from aesedge.cli import main
from aesedge.doctor import CacheExamination

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_failing_prints_what_and_returns_1(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aesedge.vision.encoder.pixels_digest", lambda _pixels: "0" * 64)
    first_steps = CacheExamination.steps
    monkeypatch.setattr(CacheExamination, "steps", lambda examination: first_steps(examination)[:3])
    code = main(["doctor", "--reuse", "--threads", "1", "--bundle", str(bundle_folder)])
    out, err = capsys.readouterr()
    assert code == 1
    assert "FAIL: tiny:" in out.splitlines()[-1]
    assert "image in the cache, asked again: answers change" in err
    assert max(map(len, out.splitlines())) <= 110


def test_a_photo_that_is_not_there_is_a_wrong_call(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--reuse", "--bundle", str(bundle_folder), "--photo", "nowhere.jpg"]) == 2
    assert "nowhere.jpg" in capsys.readouterr().err


def test_the_short_examination(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--bundle", str(bundle_folder)]) == 0
    out = capsys.readouterr().out
    assert "doctor --reuse" in out
    assert main(["doctor", "--json", "--bundle", str(bundle_folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in found["checks"]] == ["files", "llama.cpp", "vision", "memory", "cache folder", "network"]


def test_the_short_examination_fails(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(bundle_folder, tmp_path / "broken")
    path = broken / "llm-other.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("AESEDGE_CACHE", str(tmp_path / "file"))
    assert main(["doctor", "--json", "--bundle", str(broken), "--memory", "1MB"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {c["name"] for c in found["checks"] if not c["ok"]} == {"files", "memory", "cache folder"}


def test_ctrl_c_leaves_nothing(bundle_folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START, "doctor", "--reuse", "--threads", "1", "--bundle", bundle_folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    while not list(tmp_path.glob("aesedge-doctor-*/cache-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert not list(tmp_path.glob("aesedge*"))
