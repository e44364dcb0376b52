"""A bundle's folder appears whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import tiny_llava
from aesedge_export import export_checkpoint, exporter
from aesedge_export.work_folder import clear_leftovers

from aesedge.errors import BundleError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


OLD = '{"format_version": 1, "files": [{"path": "llm-old.gguf"}, {"path": "../mine.txt"}, {"path": "folder"}]}'
"""What makes a folder a bundle that may be replaced."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.mark.parametrize("step", ["vision fp32", "vision int8", "language model", "hashes"])
def test_ctrl_c_leaves_nothing_and_the_old_bundle_as_it_was(checkpoint: Path, tmp_path: Path, step: str) -> None:
    old = tmp_path / "out"
    old.mkdir()
    (old / "manifest.json").write_text(OLD)

    def interrupt(name: str, _share: float, _detail: str = "") -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(checkpoint, old, gguf_types=["Q8_0"], parity=False, overwrite=True, progress=interrupt)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert [p.read_text() for p in old.iterdir()] == [OLD]


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """Return the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_run_left_is_removed(tmp_path: Path, dead_pid: int) -> None:
    for name in (f".out.{dead_pid}.partial", f".other.{dead_pid}.partial", f".out.{os.getpid()}.partial", ".out.txt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "llm.gguf").write_text("half")
    clear_leftovers(tmp_path / "out")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".other.{dead_pid}.partial", f".out.{os.getpid()}.partial", ".out.txt"}


@pytest.mark.parametrize("new_is_there", [False, True])
def test_a_bundle_that_was_moved_aside_by_a_killed_run_comes_back(
    tmp_path: Path, dead_pid: int, new_is_there: bool
) -> None:
    old, out = tmp_path / f".out.{dead_pid}.old", tmp_path / "out"
    old.mkdir()
    (old / "manifest.json").write_text("old")
    if new_is_there:
        out.mkdir()
        (out / "manifest.json").write_text("new")
    clear_leftovers(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "manifest.json").read_text() == ("new" if new_is_there else "old")


def test_overwrite_replaces_a_bundle_and_nothing_else(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine.txt"
    mine.write_text("mine")
    (out / "folder").mkdir(parents=True)
    for name in ("diary.txt", "folder/inner", "llm-f16.gguf", "llm-old.gguf"):
        (out / name).write_text("mine")
    (out / "link").symlink_to(mine)
    log = logging.getLogger("aesedge")
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "handlers", [])
    for text in (None, "mine", "{", '{"name": "a web page"}'):
        if text is not None:
            (out / "manifest.json").write_text(text)
        with pytest.raises(UsageError, match="is not a bundle"):
            export_checkpoint(checkpoint, out, overwrite=True)
    (out / "manifest.json").write_text(OLD)
    with pytest.raises(UsageError, match="--overwrite"):
        export_checkpoint(checkpoint, out)
    manifest = export_checkpoint(checkpoint, out, gguf_types=["F16"], parity=False, overwrite=True)
    assert manifest.fidelity.checked is False
    made = {"manifest.json", *(file.path for file in manifest.files)}
    stayed = {"diary.txt", "folder", "link", "llm-f16.gguf.kept"}
    assert {path.name for path in out.iterdir()} == made | stayed
    for path in (mine, out / "diary.txt", out / "folder" / "inner", out / "link", out / "llm-f16.gguf.kept"):
        assert path.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.txt", "out"]
    (said,) = [record.getMessage() for record in caplog.records if "not part of the bundle" in record.getMessage()]
    assert all(name in said for name in stayed)


def test_a_link_to_a_folder_stays_and_what_it_leads_to_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "b", tmp_path / "b"
    real.mkdir(parents=True)
    (real / "manifest.json").write_text(OLD)
    link.symlink_to(real, target_is_directory=True)
    export_checkpoint(checkpoint, link, gguf_types=["F16"], parity=False, overwrite=True)
    assert link.is_symlink()
    assert (real / "llm-f16.gguf").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "disk"]
    assert [p.name for p in real.parent.iterdir()] == ["b"]


def test_a_full_disk_is_one_line(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter, "write_fp32", full)
    with pytest.raises(BundleError, match="No space left on device; make room"):
        export_checkpoint(checkpoint, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == []
