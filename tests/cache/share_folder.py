"""Processes that share a cache folder, started by test_disk_store_processes.py: some die, some must stay right.

    python share_folder.py killed FOLDER N   N times: fork two writers, kill -9 them at a random moment, look
    python share_folder.py busy FOLDER SEED  put, get, pin and remove for a while, and check every answer

Workers are forked, not started: a Python of their own would take longer to start than they live.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

from aesedge.cache import DiskStore, entry_file

KEYS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(16)]
LONGEST_LIFE_S = 0.03


class Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def payload_of(key: str, size: int) -> bytes:
    """Every length of it is another beginning of the same bytes, so that each can be checked."""
    return (bytes.fromhex(key) * (size // 32 + 1))[:size]


def is_right(key: str, payload: bytes) -> bool:
    return payload == payload_of(key, len(payload))


def write_for_ever(folder: Path, seed: int, done: int) -> None:
    """Put entries and tell, one byte each, which ones are kept."""
    rng = random.Random(seed)
    store = DiskStore(folder, kind="kv", budget_bytes=None)
    while True:
        n = rng.randrange(len(KEYS))
        pinned = rng.random() < 0.3
        if store.put(KEYS[n], payload_of(KEYS[n], rng.choice([100, 10_000, 1_000_000])), pinned=pinned):
            os.write(done, bytes([n]))


def killed(folder: Path, n_kills: int) -> tuple[int, int]:
    """Return how many entries were kept and how many files were left half written."""
    rng = random.Random(n_kills)
    entry_file._PIECE_BYTES = 5_000  # many moments in the middle of a file
    complaints = Complaints()
    logging.getLogger("aesedge").addHandler(complaints)
    kept: set[int] = set()
    n_left_over = 0
    for round_ in range(n_kills):
        receive, send = os.pipe()
        workers = []
        for number in range(2):
            pid = os.fork()
            if not pid:
                os.close(receive)
                write_for_ever(folder, 2 * round_ + number, send)
            workers.append(pid)
        os.close(send)
        kept.update(os.read(receive, 1))  # by now at least one of them is at work
        time.sleep(rng.random() * LONGEST_LIFE_S)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with os.fdopen(receive, "rb") as told:
            kept.update(told.read())
        n_left_over += len(list(folder.glob(".*.part")))
        reader = DiskStore(folder, kind="kv", budget_bytes=None)
        assert not list(folder.glob(".*.part")), "leftovers are removed when a store is opened"
        assert not list(folder.glob(".*.alive"))
        for n, key in enumerate(KEYS):
            entry = reader.get(key)
            assert entry is not None or n not in kept, "what was kept is there"
            assert entry is None or is_right(key, entry.payload.tobytes())
        found = [entry.key for entry in reader.entries()]
        assert len(set(found)) == len(found), "no entry is there twice"
    assert not complaints.messages, complaints.messages
    return len(kept), n_left_over


def busy(folder: Path, seed: int) -> tuple[int]:
    """Return how often an entry was there."""
    rng = random.Random(seed)
    complaints = Complaints()
    logging.getLogger("aesedge").addHandler(complaints)
    budget_bytes = 300_000
    store = DiskStore(folder, kind="kv", budget_bytes=budget_bytes)
    n_hits = 0
    ends = time.monotonic() + 1.5
    for step in itertools.count():
        if time.monotonic() > ends:
            break
        key = KEYS[rng.randrange(len(KEYS))]
        act = rng.random()
        if act < 0.45:
            entry = store.get(key)
            assert entry is None or is_right(key, entry.payload.tobytes())
            n_hits += entry is not None
        elif act < 0.9:
            assert store.put(key, payload_of(key, rng.choice([1_000, 30_000, 60_000])))
        elif act < 0.95:
            store.remove(key)
        else:
            store.pin(KEYS[seed])
            store.unpin(KEYS[seed])
        assert step % 20 or sum(entry.n_bytes for entry in store.entries()) <= budget_bytes + 2 * 61_000
    assert not complaints.messages, complaints.messages
    return (n_hits,)


if __name__ == "__main__":
    what, where, number = sys.argv[1:]
    sys.stdout.write(" ".join(map(str, {"killed": killed, "busy": busy}[what](Path(where), int(number)))))
