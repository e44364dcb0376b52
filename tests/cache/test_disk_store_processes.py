"""Processes that share a folder and processes that are killed: nobody reads half a file, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aesedge.cache import DiskStore

SCRIPT = Path(__file__).with_name("share_folder.py")
KEYS = [f"{n:064x}" for n in range(4)]
N_KILLS = 30

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its workers")


def started(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str]) -> list[int]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [int(number) for number in out.split()]


def test_killed_writers_lose_at_most_what_they_were_writing(tmp_path: Path) -> None:
    n_kept, n_left_over = output_of(started("killed", tmp_path, N_KILLS))
    assert n_kept > 10, "the writers lived long enough to write"
    assert n_left_over > 5, "the writers were killed while they wrote"


def test_two_processes_at_once_get_right_answers_within_the_budget(tmp_path: Path) -> None:
    processes = [started("busy", tmp_path, seed) for seed in (1, 2)]
    assert all(n_hits > 0 for process in processes for n_hits in output_of(process))
    store = DiskStore(tmp_path, kind="kv", budget_bytes=300_000)
    assert sum(entry.n_bytes for entry in store.entries()) <= 300_000
    assert {path.suffix for path in tmp_path.iterdir()} <= {".entry", ".pinned", ""}


def wait_until(path_exists: Path) -> None:
    ends = time.monotonic() + 20
    while not path_exists.exists():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_file_of_a_living_writer_is_left_alone_and_of_a_dead_one_is_not(tmp_path: Path) -> None:
    stops_while_it_writes = (
        "import os, sys, time\nfrom pathlib import Path\nfrom aesedge.cache import DiskStore, entry_file\n"
        "folder = Path(sys.argv[1])\n"
        "entry_file.os.fsync = lambda _: (Path(sys.argv[2]).touch(), time.sleep(100))\n"
        f"DiskStore(folder, kind='kv', budget_bytes=None).put({KEYS[0]!r}, bytes(1000))\n"
    )
    folder, is_writing = tmp_path / "kv", tmp_path / "writing"
    writer = subprocess.Popen([sys.executable, "-c", stops_while_it_writes, str(folder), str(is_writing)])
    try:
        wait_until(is_writing)
        store = DiskStore(folder, kind="kv", budget_bytes=1000)
        assert store.put(KEYS[1], b"")
        (part,) = folder.glob(".*.part")
        assert part.stat().st_size > 1000
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert store.put(KEYS[2], b""), "the next one to count the folder clears up"
    assert not list(folder.glob(".*.part"))
    assert not list(folder.glob(".*.alive"))
    assert store.get(KEYS[0]) is None
