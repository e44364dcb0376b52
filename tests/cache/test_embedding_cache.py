"""Image embeddings in memory and on disk: the same bits from every tier, within both budgets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aesedge.cache import DiskStore, EmbeddingCache
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

KEYS = [f"{n:064x}" for n in range(20)]
ROW_BYTES = 3 * 4 * 2


def rows(seed: int, scale: float = 1) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((3, 4)) * scale).astype(np.float32)


def rounded(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return array.astype(np.float16).astype(np.float32)


@pytest.fixture
def disk(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "embeddings", kind="embeddings", budget_bytes=None)


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(-65519, 65519, width=32)))
def test_rows_are_rounded_now_as_they_will_come_back(array: npt.NDArray[np.float32]) -> None:
    cold = rounded(array)
    cache = EmbeddingCache(ram_bytes=1000)
    for given_rows in (array, cold):
        now = cache.put(KEYS[0], given_rows)
        assert (now.astype(np.float32).view(np.uint32) == cold.view(np.uint32)).all()
        hit = cache.get(KEYS[0])
        assert hit is not None
        assert (hit.rows.astype(np.float32).view(np.uint32) == cold.view(np.uint32)).all()


def test_both_tiers_give_the_same_bits(disk: DiskStore) -> None:
    cache = EmbeddingCache(ram_bytes=1000, disk=disk)
    assert cache.get(KEYS[0]) is None
    cache.put(KEYS[0], rows(0))
    from_ram = cache.get(KEYS[0])
    anew = EmbeddingCache(ram_bytes=1000, disk=disk)
    from_disk, again = anew.get(KEYS[0]), anew.get(KEYS[0])
    assert from_ram is not None
    assert from_disk is not None
    assert again is not None
    assert (from_ram.tier, from_disk.tier, again.tier) == ("ram", "disk", "ram")
    for hit in (from_ram, from_disk, again):
        assert hit.rows.dtype == np.float16
        assert (hit.rows.astype(np.float32) == rounded(rows(0))).all()
        with pytest.raises(ValueError, match="read-only"):
            hit.rows[0, 0] = 1


def test_rows_may_be_changed_after_they_were_kept(disk: DiskStore) -> None:
    cache = EmbeddingCache(ram_bytes=1000, disk=disk)
    for n, dtype in enumerate((np.float32, np.float16)):
        mine = rows(0).astype(dtype)
        cache.put(KEYS[n], mine)
        mine[:] = 0
        hit = cache.get(KEYS[n])
        assert hit is not None
        assert (hit.rows.astype(np.float32) == rounded(rows(0))).all()


def test_rows_in_any_memory_order_are_kept(disk: DiskStore) -> None:
    wide = np.random.default_rng(0).random((6, 8), dtype=np.float32)
    for key, array in zip(KEYS, (np.asfortranarray(wide), wide[::2, ::2], wide.T), strict=False):
        EmbeddingCache(ram_bytes=0, disk=disk).put(key, array)
        hit = EmbeddingCache(ram_bytes=0, disk=disk).get(key)
        assert hit is not None
        assert (hit.rows == array.astype(np.float16)).all()


@pytest.mark.parametrize("value", [65520, -1e9, np.inf, np.nan])
def test_rows_beyond_float16_are_refused_and_left_alone(value: float, disk: DiskStore) -> None:
    wild = rows(0)
    wild[1, 2] = value
    cache = EmbeddingCache(ram_bytes=1000, disk=disk)
    assert cache.put(KEYS[0], wild) is wild
    assert cache.get(KEYS[0]) is None
    assert disk.entries() == []


def test_least_recently_used_leaves_memory_first() -> None:
    cache = EmbeddingCache(ram_bytes=3 * ROW_BYTES + 1)
    for key in KEYS[:3]:
        cache.put(key, rows(0))
    cache.get(KEYS[0])
    cache.put(KEYS[1], rows(1))
    cache.put(KEYS[3], rows(0))
    assert [key for key in KEYS[:4] if cache.get(key)] == [KEYS[0], KEYS[1], KEYS[3]]
    assert cache.n_bytes == 3 * ROW_BYTES


def test_rows_larger_than_the_memory_budget_drive_nobody_out(disk: DiskStore) -> None:
    cache = EmbeddingCache(ram_bytes=ROW_BYTES, disk=disk)
    cache.put(KEYS[0], rows(0))
    cache.put(KEYS[1], np.ones((9, 9), np.float32))
    tiers = [hit and hit.tier for hit in map(cache.get, KEYS[:2])]
    assert tiers == ["ram", "disk"]
    cache.put(KEYS[0], np.ones((9, 9), np.float32))  # what it replaces may not answer for it
    hit = cache.get(KEYS[0])
    assert hit is not None
    assert hit.rows.shape == (9, 9)
    assert cache.n_bytes == 0


def test_what_memory_answers_stays_on_disk_too(tmp_path: Path) -> None:
    disk = DiskStore(tmp_path, kind="embeddings", budget_bytes=3 * 400)
    cache = EmbeddingCache(ram_bytes=1000, disk=disk)
    for n in range(10):
        cache.put(KEYS[n], rows(n))
        first = cache.get(KEYS[0])
        assert first is not None
        assert first.tier == "ram"
    assert KEYS[0] in {listing.key for listing in disk.entries()}
    assert KEYS[1] not in {listing.key for listing in disk.entries()}


def test_entry_that_is_not_all_numbers_is_removed(disk: DiskStore) -> None:
    values = np.array([[1, np.nan]], "<f2")
    disk.put(KEYS[0], values, {"dtype": "<f2", "shape": [1, 2]})
    assert EmbeddingCache(ram_bytes=1000, disk=disk).get(KEYS[0]) is None
    assert not disk.entries()


@pytest.mark.parametrize(
    ("dtype", "shape"), [("<f4", [1, 3]), ("<f2", [3, 3]), ("<f2", [6]), ("<f2", [-2, -3]), ("<f2", "x"), (None, None)]
)
def test_entry_that_is_no_array_is_removed(dtype: Any, shape: Any, disk: DiskStore) -> None:
    disk.put(KEYS[0], bytes(12), {"dtype": dtype, "shape": shape})
    assert EmbeddingCache(ram_bytes=1000, disk=disk).get(KEYS[0]) is None
    assert disk.entries() == []


@pytest.mark.parametrize("wrong", [np.ones(4, np.float32), np.ones((2, 2)), np.ones((2, 2), np.int8)])
def test_what_are_no_rows_is_refused(wrong: npt.NDArray[Any]) -> None:
    cache = EmbeddingCache(ram_bytes=1000)
    with pytest.raises(UsageError, match=r"float32 or float16 \[n_image_tokens, n_embd\], not"):
        cache.put(KEYS[0], wrong)


def test_threads_get_their_own_rows_and_memory_is_counted_right(tmp_path: Path) -> None:
    disk = DiskStore(tmp_path, kind="embeddings", budget_bytes=8 * 400)
    cache = EmbeddingCache(ram_bytes=5 * ROW_BYTES, disk=disk)
    start = threading.Barrier(4)

    def work(seed: int) -> int:
        rng = np.random.default_rng(seed)
        start.wait()
        n_hits = 0
        for n in rng.integers(0, len(KEYS), 60):
            hit = cache.get(KEYS[n])
            if hit is None:
                cache.put(KEYS[n], rows(int(n)))
            else:
                n_hits += 1
                assert (hit.rows.astype(np.float32) == rounded(rows(int(n)))).all()
        return n_hits

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) > 0
    assert cache.n_bytes == len(cache._ram) * ROW_BYTES <= cache.ram_bytes
