"""What damages a store or stands in its way: nothing that cannot be trusted comes back, and nothing fails."""

from __future__ import annotations

import os
import resource
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from small_stores import KEYS, PAYLOAD, keys_in, store_in, warnings_in

from aesedge.cache import DiskStore, disk_store, entry_file, locks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return store_in(tmp_path / "kv")


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "truncated": whole[:-1],
            "longer": whole + b"x",
            "altered": whole[:-1] + b"x",
            "foreign": b"GGUF" * 100,
            "older": whole[:8] + b"\0\0\0\0" + whole[12:],
        }[how]
    )


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("how", ["empty", "truncated", "longer", "altered", "foreign", "older"])
def test_damaged_entries_are_removed_with_one_warning(
    how: str, pinned: bool, store: DiskStore, caplog: pytest.LogCaptureFixture
) -> None:
    for key in KEYS[:3]:
        store.put(key, PAYLOAD, pinned=pinned)
    for path in store.folder.glob(f"*{'.pinned' if pinned else '.entry'}"):
        if path.stem != KEYS[2]:
            damage(path, how)
    assert store.get(KEYS[0]) is None
    assert store.get(KEYS[1]) is None
    assert keys_in(store) == [KEYS[2]]
    (warning,) = warnings_in(caplog)
    assert "it is removed, and what it held is computed again" in warning
    assert KEYS[0] in warning
    assert store.put(KEYS[0], PAYLOAD)
    assert store.get(KEYS[0]) is not None


def test_entries_under_another_name_or_of_another_kind_do_not_answer(store: DiskStore) -> None:
    store.put(KEYS[0], PAYLOAD)
    (path,) = store.folder.glob("*.entry")
    path.rename(path.with_stem(KEYS[1]))
    assert store.get(KEYS[1]) is None
    store.put(KEYS[0], PAYLOAD)
    assert DiskStore(store.folder, kind="embeddings", budget_bytes=None).get(KEYS[0]) is None
    assert store.entries() == []


def test_good_entry_that_took_a_damaged_ones_place_stays(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEYS[0], PAYLOAD)
    (path,) = store.folder.glob("*.entry")
    damage(path, "altered")

    def replace_then_find_damage(*args: object, **of: str) -> None:
        store_in(store.folder).put(KEYS[0], PAYLOAD)
        raise entry_file.DamagedEntry("as it was")

    with monkeypatch.context() as patch:
        patch.setattr(disk_store, "read_entry", replace_then_find_damage)
        assert store.get(KEYS[0]) is None
    assert store.get(KEYS[0]) is not None


def test_folder_that_cannot_be_made_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    store = store_in(tmp_path / "file" / "kv")
    for key in KEYS[:3]:
        assert not store.put(key, PAYLOAD)
        assert store.get(key) is None
    assert not store.pin(KEYS[0])
    (warning,) = warnings_in(caplog)
    assert "cannot be written (" in warning
    assert "AESEDGE_CACHE" in warning


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_became_read_only_still_answers(store: DiskStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put(KEYS[0], PAYLOAD)
    (store.folder / ".lock").unlink()
    store.folder.chmod(0o500)
    try:
        reader = store_in(store.folder)
        assert reader.get(KEYS[0]) is not None
        assert not reader.put(KEYS[1], PAYLOAD)
    finally:
        store.folder.chmod(0o700)
    assert len(warnings_in(caplog)) == 1


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Stop writes as a full disk does, in the middle of a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_is_one_warning_and_leaves_nothing_behind(
    store: DiskStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_file, "_PIECE_BYTES", 1000)
    store.put(KEYS[0], PAYLOAD)
    with largest_file(50_000):
        for key in KEYS[:3]:
            assert not store.put(key, bytes(100_000))
    assert {path.name for path in store.folder.iterdir()} == {".lock", f"{KEYS[0]}.entry"}
    assert len(warnings_in(caplog)) == 1
    assert store.get(KEYS[0]) is not None
    assert store.put(KEYS[1], bytes(100_000))


def test_entry_that_cannot_be_opened_is_one_warning(store: DiskStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put(KEYS[0], PAYLOAD)
    (path,) = store.folder.glob("*.entry")
    path.unlink()
    path.mkdir()
    assert store.get(KEYS[0]) is None
    assert store.get(KEYS[0]) is None
    assert not store.put(KEYS[0], PAYLOAD)
    assert len(warnings_in(caplog)) == 2  # one for reading, one for writing


def test_process_that_never_lets_go_of_the_lock_stops_nobody(
    store: DiskStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(KEYS[0], PAYLOAD)
    monkeypatch.setattr(locks, "_TIMEOUT_S", 0.05)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(store.folder / ".lock"):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert not store.put(KEYS[1], PAYLOAD)
        assert store.get(KEYS[0]) is not None
    finally:
        done.set()
        thread.join()
    assert len(warnings_in(caplog)) == 1
    assert store.put(KEYS[1], PAYLOAD)


def test_ctrl_c_while_writing_leaves_nothing_behind(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_file: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(entry_file.os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.put(KEYS[0], PAYLOAD)
    assert {path.name for path in store.folder.iterdir()} == {".lock"}
    assert store.put(KEYS[0], PAYLOAD)
