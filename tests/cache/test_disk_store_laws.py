"""A store against a list: whatever is done in whatever order, exactly the least recently used ones are gone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aesedge.cache import DiskStore
from aesedge.cache.entry_file import EntryWriter

KEYS = st.sampled_from([f"{n:064x}" for n in range(9)])
SIZES = st.sampled_from([0, 300, 1000])


class StoreBesideList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[str, tuple[bytes, int, bool]] = {}  # least recently used first

    @initialize(budget_bytes=st.sampled_from([None, 0, 1500, 3000]))
    def open(self, budget_bytes: int | None) -> None:
        self.budget_bytes = budget_bytes
        self.store = self.opened()

    def opened(self) -> DiskStore:
        return DiskStore(self.folder, kind="kv", budget_bytes=self.budget_bytes)

    def use(self, key: str) -> None:
        self.model[key] = self.model.pop(key)

    def is_pinned(self, key: str) -> bool:
        return key in self.model and self.model[key][2]

    def n_bytes(self, *, pinned_only: bool = False) -> int:
        return sum(n_bytes for _, n_bytes, pinned in self.model.values() if pinned or not pinned_only)

    def evict(self, keep: str) -> None:
        for key in list(self.model):
            is_over = self.budget_bytes is not None and self.n_bytes() > self.budget_bytes
            if is_over and key != keep and not self.is_pinned(key):
                del self.model[key]

    @rule(key=KEYS, n=SIZES, pinned=st.booleans(), data=st.binary(min_size=1, max_size=1))
    def put(self, key: str, n: int, pinned: bool, data: bytes) -> None:
        n_bytes = EntryWriter(key, "kv", {}, data * n).n_bytes
        fits = self.budget_bytes is None or n_bytes + self.n_bytes(pinned_only=True) <= self.budget_bytes
        assert self.store.put(key, data * n, pinned=pinned) == (pinned or fits)
        if pinned or fits:
            pinned |= self.is_pinned(key)
            self.model.pop(key, None)
            self.model[key] = data * n, n_bytes, pinned
            self.evict(key)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        entry = self.store.get(key)
        assert (entry and entry.payload.tobytes()) == (self.model[key][0] if key in self.model else None)
        if entry is not None:
            self.use(key)

    @rule(key=KEYS, pinned=st.booleans())
    def pin(self, key: str, pinned: bool) -> None:
        assert (self.store.pin(key) if pinned else self.store.unpin(key)) == (key in self.model)
        if key in self.model:
            self.model[key] = *self.model[key][:2], pinned

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        assert self.store.remove(key) == (self.model.pop(key, None) is not None)

    @rule(key=KEYS)
    def damage(self, key: str) -> None:
        for path in self.folder.glob(f"{key}.*"):
            path.write_bytes(path.read_bytes()[:-1])
            assert self.store.get(key) is None
            del self.model[key]

    @rule()
    def restart(self) -> None:
        self.store = self.opened()
        self.evict("")

    @invariant()
    def folder_is_the_list(self) -> None:
        found = {entry.key: (entry.n_bytes, entry.pinned) for entry in self.store.entries()}
        assert found == {key: (n_bytes, pinned) for key, (_, n_bytes, pinned) in self.model.items()}
        assert [entry.key for entry in self.store.entries()] == list(self.model)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


StoreBesideList.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestStoreBesideList = StoreBesideList.TestCase
