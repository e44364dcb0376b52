"""Small stores for tests: thirty keys, one payload, a budget counted in entries, and what a store holds and says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aesedge.cache import DiskStore
from aesedge.cache.entry_file import EntryWriter

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KEYS = [f"{n:064x}" for n in range(30)]
PAYLOAD = bytes(range(250))
ENTRY_BYTES = EntryWriter(KEYS[0], "kv", {}, PAYLOAD).n_bytes


def store_in(folder: Path, n_entries: float | None = None) -> DiskStore:
    return DiskStore(folder, kind="kv", budget_bytes=None if n_entries is None else int(n_entries * ENTRY_BYTES))


def keys_in(store: DiskStore) -> list[str]:
    return [listing.key for listing in store.entries()]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "aesedge" and r.levelno == logging.WARNING]
