"""A folder of entries: found by key, private, and within its budget, least recently used ones out first."""

from __future__ import annotations

import os
import stat
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_stores import ENTRY_BYTES, KEYS, PAYLOAD, keys_in, store_in, warnings_in

from aesedge.cache import DiskStore, entry_file, open_store
from aesedge.cache.lru_index import LogicalClock
from aesedge.errors import UsageError


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return store_in(tmp_path / "kv")


def test_entries_come_back_and_survive_the_process_that_wrote_them(store: DiskStore) -> None:
    assert store.get(KEYS[0]) is None
    assert not store.folder.exists(), "asking makes no folder"
    assert store.put(KEYS[0], PAYLOAD, {"n_tokens": 7})
    for reader in (store, store_in(store.folder)):
        entry = reader.get(KEYS[0])
        assert entry is not None
        assert (entry.payload.tobytes(), entry.metadata, entry.kind) == (PAYLOAD, {"n_tokens": 7}, "kv")
        assert reader.peek(KEYS[0]) == {"n_tokens": 7}
    assert store.get(KEYS[1]) is None
    assert store.peek(KEYS[1]) is None


def test_later_entry_replaces_the_earlier(store: DiskStore) -> None:
    store.put(KEYS[0], b"a")
    store.put(KEYS[0], b"b")
    entry = store.get(KEYS[0])
    assert entry is not None
    assert entry.payload.tobytes() == b"b"
    assert len(store.entries()) == 1


def test_store_of_the_user_lies_in_the_cache_folder() -> None:
    store = open_store("embeddings", "1GB")
    assert (store.folder, store.budget_bytes) == (Path(os.environ["AESEDGE_CACHE"]) / "embeddings", 10**9)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_nobody_else_can_read(store: DiskStore) -> None:
    store.put(KEYS[0], PAYLOAD)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    (path,) = store.folder.glob("*.entry")
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("key", ["", "../" + "a" * 61, "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_key_is_refused(key: str, store: DiskStore) -> None:
    for call in (store.get, store.peek, store.touch, store.pin, store.unpin, store.remove):
        with pytest.raises(UsageError, match="64 small hexadecimal digits"):
            call(key)
    with pytest.raises(UsageError, match="64 small hexadecimal digits"):
        store.put(key, b"")


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = store_in(tmp_path, 3)
    for key in KEYS[:3]:
        store.put(key, PAYLOAD)
    store.get(KEYS[0])
    store.touch(KEYS[1])
    store.peek(KEYS[2])  # is no use
    store.put(KEYS[3], PAYLOAD)
    assert keys_in(store) == [KEYS[0], KEYS[1], KEYS[3]]
    store.put(KEYS[0], PAYLOAD)  # in place of itself
    assert keys_in(store) == [KEYS[1], KEYS[3], KEYS[0]]


def test_uses_by_another_process_count(tmp_path: Path) -> None:
    store, other = store_in(tmp_path, 3), store_in(tmp_path, 3)
    for key in KEYS[:3]:
        store.put(key, PAYLOAD)
    other.get(KEYS[0])
    store.put(KEYS[3], PAYLOAD)
    assert keys_in(store) == [KEYS[2], KEYS[0], KEYS[3]]


def test_one_entry_may_take_the_place_of_several(tmp_path: Path) -> None:
    store = store_in(tmp_path, 4)
    for key in KEYS[:4]:
        store.put(key, PAYLOAD)
    store.put(KEYS[4], bytes(ENTRY_BYTES))
    assert keys_in(store) == [KEYS[2], KEYS[3], KEYS[4]]


def test_budget_that_became_smaller_holds_from_the_start(tmp_path: Path) -> None:
    store = store_in(tmp_path, 5)
    for key in KEYS[:5]:
        store.put(key, PAYLOAD)
    assert keys_in(store_in(tmp_path, 2)) == KEYS[3:5]


def test_entry_over_the_whole_budget_is_not_kept_and_drives_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path, 2)
    store.put(KEYS[0], PAYLOAD)
    for key in KEYS[1:3]:
        assert not store.put(key, bytes(3 * ENTRY_BYTES))
    assert keys_in(store) == [KEYS[0]]
    (warning,) = warnings_in(caplog)
    assert "raise the budget" in warning


def test_budget_of_nothing_keeps_nothing_and_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_in(tmp_path / "kv", 0)
    assert not store.put(KEYS[0], PAYLOAD)
    assert not store.folder.exists()
    assert store.put(KEYS[0], PAYLOAD, pinned=True)
    assert not warnings_in(caplog)


def test_pinned_entries_stay_are_listed_and_can_be_removed(tmp_path: Path) -> None:
    store = store_in(tmp_path, 3)
    store.put(KEYS[0], PAYLOAD, pinned=True)
    store.put(KEYS[1], PAYLOAD)
    assert store.pin(KEYS[1])
    for key in KEYS[2:6]:
        assert store.put(key, PAYLOAD)
    assert [(entry.key, entry.pinned) for entry in store.entries()] == [
        (KEYS[0], True),
        (KEYS[1], True),
        (KEYS[5], False),
    ]
    assert store.get(KEYS[0]) is not None
    assert store.remove(KEYS[0])
    assert not store.remove(KEYS[0])
    assert store.unpin(KEYS[1])
    for key in KEYS[6:9]:
        store.put(key, PAYLOAD)
    assert keys_in(store) == KEYS[6:9]


def test_pinned_entries_that_fill_the_budget_leave_no_room_until_one_is_unpinned(tmp_path: Path) -> None:
    store, other = store_in(tmp_path, 2), store_in(tmp_path, 2)
    for key in KEYS[:3]:
        assert store.put(key, PAYLOAD, pinned=True), "who pins knows better than the budget"
    assert not store.put(KEYS[3], PAYLOAD)
    other.remove(KEYS[0])
    other.unpin(KEYS[1])
    assert store.put(KEYS[3], PAYLOAD)
    assert keys_in(store) == [KEYS[2], KEYS[3]]


def test_entry_whose_room_was_pinned_meanwhile_is_not_kept(tmp_path: Path) -> None:
    store, other = store_in(tmp_path, 300), store_in(tmp_path, 300)
    store.put(KEYS[0], PAYLOAD)
    store.put(KEYS[2], PAYLOAD)
    assert not store._index.is_due
    other.put(KEYS[1], bytes(299 * ENTRY_BYTES), pinned=True)
    store._index._n_bytes = 10**9  # as after enough puts
    assert not store.put(KEYS[3], PAYLOAD)
    assert keys_in(store) == [KEYS[1]]


def test_pinning_what_is_not_there_says_so(store: DiskStore) -> None:
    assert not store.pin(KEYS[0])
    assert not store.remove(KEYS[0])
    store.put(KEYS[0], PAYLOAD)
    assert not store.pin(KEYS[1])
    assert store.pin(KEYS[0])
    assert store.pin(KEYS[0])
    assert store.put(KEYS[0], b"other"), "what replaces a pinned entry is pinned"
    assert [entry.pinned for entry in store.entries()] == [True]


def test_clock_that_is_set_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path, 3)
    for key in KEYS[:3]:
        store.put(key, PAYLOAD)
    monkeypatch.setattr("aesedge.cache.lru_index.time.time_ns", lambda: 1)
    after_restart = store_in(tmp_path, 3)
    after_restart.get(KEYS[0])
    after_restart.put(KEYS[3], PAYLOAD)
    assert keys_in(after_restart) == [KEYS[2], KEYS[0], KEYS[3]]


def test_clock_never_gives_one_time_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LogicalClock()
    monkeypatch.setattr("aesedge.cache.lru_index.time.time_ns", lambda: 5)
    clock.saw(3)
    assert [clock.tick() for _ in range(3)] == [5, 6, 7]
    clock.saw(100)
    assert clock.tick() == 101


def test_files_of_others_are_neither_counted_nor_touched(tmp_path: Path) -> None:
    for name in ("notes.txt", "a.entry", ".hidden", "b" * 64, ".x.part"):
        (tmp_path / name).write_bytes(bytes(10 * ENTRY_BYTES))
    store = store_in(tmp_path, 2)
    for key in KEYS[:3]:
        store.put(key, PAYLOAD)
    assert keys_in(store) == KEYS[1:3]
    assert len([path for path in tmp_path.iterdir() if path.stat().st_size == 10 * ENTRY_BYTES]) == 5


def test_lock_is_free_while_an_entry_is_written(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    other = store_in(store.folder)
    fsync = os.fsync
    n_inner = []

    def put_another_meanwhile(descriptor: int) -> None:
        fsync(descriptor)
        if not n_inner:
            n_inner.append(1)
            for writer, key in ((other, KEYS[1]), (store, KEYS[2]), (other, KEYS[0])):
                assert writer.put(key, PAYLOAD)

    monkeypatch.setattr(entry_file.os, "fsync", put_another_meanwhile)
    assert store.put(KEYS[0], PAYLOAD)
    assert sorted(keys_in(store)) == KEYS[:3]
    assert all(store.get(key) for key in KEYS[:3])


def test_large_payloads_are_in_memory_once(store: DiskStore) -> None:
    payload = np.random.default_rng(0).integers(0, 256, 32 << 20, dtype=np.uint8)
    tracemalloc.start()
    try:
        store.put(KEYS[0], payload)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        entry = store.get(KEYS[0])
        assert tracemalloc.get_traced_memory()[1] < payload.nbytes + (2 << 20)
    finally:
        tracemalloc.stop()
    assert entry is not None
    assert (entry.payload == payload).all()


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = store_in(tmp_path, 8)
    start = threading.Barrier(4)

    def payload(n: int) -> bytes:
        return bytes([n]) * len(PAYLOAD)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait()
        for n in rng.integers(0, 12, 50):
            key = KEYS[n]
            act = rng.integers(0, 10)
            if act < 5:
                entry = store.get(key)
                assert entry is None or entry.payload.tobytes() == payload(n)
            elif act < 9:
                assert store.put(key, payload(n))
            else:
                store.remove(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sum(entry.n_bytes for entry in store.entries()) <= 8 * ENTRY_BYTES
    assert all(store.get(key) for key in keys_in(store))


def test_large_folders_are_scanned_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path, 500)
    n_scans = []
    scan = sys.modules["aesedge.cache.lru_index"].scan
    monkeypatch.setattr("aesedge.cache.lru_index.scan", lambda folder: n_scans.append(1) or scan(folder))
    monkeypatch.setattr(entry_file.os, "fsync", lambda _file: None)
    for n in range(600):
        store.put(f"{n:064x}", PAYLOAD)
    assert keys_in(store) == [f"{n:064x}" for n in range(100, 600)]
    assert len(n_scans) < 600 * 64 / 500 + 5
