"""Store cache entries in a folder that processes share, within a size limit.

Reading takes no lock: entries appear whole, by a rename, and never change. The folder's lock is held while entries are
renamed, counted and evicted, not while they are written. No error here fails a photo: an entry that cannot be written,
or is damaged and therefore removed, is one warning and is computed again.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

from aesedge.cache.entry_file import DamagedEntry, Entry, EntryWriter, read_entry, read_header
from aesedge.cache.locks import FolderLock
from aesedge.cache.lru_index import EntryInfo, LogicalClock, LruIndex, entry_path, scan
from aesedge.cache.part_file import part_file, sweep
from aesedge.cache.size_limit import parse_budget
from aesedge.errors import UsageError
from aesedge.system.paths import cache_folder
from aesedge.system.regular_file import NotRegularError, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO, TypeVar

    from aesedge.cache.entry_file import Payload

    T = TypeVar("T")

Kind = Literal["embeddings", "kv"]
_KEY = re.compile("[0-9a-f]{64}")
_log = logging.getLogger("aesedge")


def open_store(kind: Kind, budget: str, caches: Path | None = None) -> DiskStore:
    """Return a store of a kind, the user's own where no other is asked for.

    Args:
        kind: what it holds.
        budget: what it may take: ``2GB``, ``500MB``, ``5%`` of its disk; ``0`` for nothing.
        caches: the folder of all kinds; None is ``AESEDGE_CACHE``, or the platform's folder for caches.

    Raises:
        UsageError: the budget cannot be read.
    """
    folder = (caches or cache_folder()) / kind
    return DiskStore(folder, kind=kind, budget_bytes=parse_budget(budget, folder))


class DiskStore:
    """Entries of one kind in a folder; safe from several threads and several processes.

    Args:
        folder: created with the first entry, readable by its owner only: photos can be guessed from embeddings.
        kind: of the entries; entries of another kind are never returned.
        budget_bytes: limit of all entries, pinned ones included; least recently used ones are evicted first, pinned
            ones never. None for no limit, 0 keeps pinned ones only.
    """

    def __init__(self, folder: Path, *, kind: Kind, budget_bytes: int | None) -> None:
        self.folder = folder
        self.kind = kind
        self.budget_bytes = budget_bytes
        self._clock = LogicalClock()
        self._index = LruIndex(folder, budget_bytes, self._clock)
        self._lock = FolderLock(folder)
        self._warned: set[str] = set()
        self._warned_mutex = threading.Lock()
        if folder.is_dir():
            with self._warning_if_unwritable(), self._lock():
                self._refresh()
                self._index.evict(keep="")  # the budget may be smaller than it was

    def get(self, key: str) -> Entry | None:
        """Return an entry, all of it checked, or None; it counts as used now."""
        entry = self._read(key, read_entry)
        if entry is not None:
            self.touch(key)
        return entry

    def peek(self, key: str) -> dict[str, Any] | None:
        """Return an entry's metadata without reading its payload, or None; it does not count as used."""
        header = self._read(key, read_header)
        return None if header is None else header.metadata

    def touch(self, key: str) -> None:
        """Count an entry as used now; does nothing if there is none."""
        used_ns = self._clock.tick()
        for path in self._places(key):
            with suppress(OSError):  # not there, or not ours to change
                os.utime(path, ns=(used_ns, used_ns), follow_symlinks=os.utime not in os.supports_follow_symlinks)
                return

    def put(
        self, key: str, payload: Payload, metadata: Mapping[str, Any] | None = None, *, pinned: bool = False
    ) -> bool:
        """Write an entry and return whether it is kept; if it replaces a pinned one it stays pinned.

        Args:
            key: from :mod:`aesedge.cache.keys`.
            payload: anything with one contiguous buffer; it is written from where it is, without a copy.
            metadata: a little JSON, such as ``{"n_tokens": 620}``.
            pinned: whether it is exempt from the budget.
        """
        _check_key(key)
        writer = EntryWriter(key, self.kind, metadata or {}, payload)
        if not pinned and not self._fits(writer.n_bytes):
            return False
        kept = False
        with self._warning_if_unwritable(), part_file(self.folder, self._lock) as part:
            with open(part, "xb", opener=_open_private) as file:
                writer.write(file)
            with self._lock():
                kept = self._install(part, key, writer.n_bytes, pinned=pinned)
        return kept

    def pin(self, key: str) -> bool:
        """Exempt an entry from the budget; return whether there is one."""
        return self._rename(key, pinned=True)

    def unpin(self, key: str) -> bool:
        """Subject an entry to the budget again; return whether there is one."""
        return self._rename(key, pinned=False)

    def remove(self, key: str) -> bool:
        """Remove an entry, pinned or not; return whether there was one."""
        _check_key(key)
        removed = False
        if self.folder.is_dir():
            with self._warning_if_unwritable(), self._lock():
                for path in self._places(key):
                    with suppress(FileNotFoundError):
                        path.unlink()
                        removed = True
                self._index.forget()
        return removed

    def entries(self) -> list[EntryInfo]:
        """Return the entries, least recently used first."""
        try:
            return scan(self.folder)[0]
        except OSError:
            return []

    def _read(self, key: str, reader: Callable[..., T]) -> T | None:
        for path in self._places(key):
            try:
                with open_regular(path, follow_links=False) as file:
                    try:
                        return reader(file, key=key, kind=self.kind)
                    except DamagedEntry as damage:
                        self._drop(path, file, damage)
                        return None
            except (FileNotFoundError, NotADirectoryError):
                continue
            except NotRegularError as error:
                self._drop_strange(path, error)
                return None
            except OSError as error:
                self._warn_once("read", f"{path}: cannot be read ({error.strerror}); what it holds is computed again")
                return None
        return None

    def _drop_strange(self, path: Path, error: OSError) -> None:
        """Remove a link, a FIFO or a device in an entry's place; a folder stays, its content is unknown."""
        self._warn_once("strange", f"{path}: {error.strerror}; what it held is computed again")
        with suppress(OSError):
            path.unlink()
        self._index.forget()

    def _drop(self, path: Path, file: BinaryIO, damage: DamagedEntry) -> None:
        self._warn_once("damaged", f"{path}: {damage}; it is removed, and what it held is computed again")
        with self._warning_if_unwritable(), self._lock(), suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):  # else a good one has taken its place
                path.unlink()
            self._index.forget()

    def _fits(self, n_bytes: int) -> bool:
        """Return whether an entry fits beside the pinned ones, before 300 MB are written in vain."""
        if self.budget_bytes is None:
            return True
        n_room = self.budget_bytes - self._index.n_pinned_bytes
        if n_bytes <= self.budget_bytes and (n_bytes > n_room or self._index.is_due):
            with self._warning_if_unwritable(), self._lock():
                self._refresh()
            n_room = self.budget_bytes - self._index.n_pinned_bytes
        if n_bytes <= n_room:
            return True
        if self.budget_bytes:  # with a budget of nothing, nothing is what was asked for
            self._warn_once(
                "budget",
                f"{self.folder}: an entry of {n_bytes} bytes beside {self._index.n_pinned_bytes} pinned ones is "
                f"over the budget of {self.budget_bytes} and is not kept; raise the budget or unpin something",
            )
        return False

    def _install(self, part: Path, key: str, n_bytes: int, *, pinned: bool) -> bool:
        """Rename a written file to its entry's name and evict others for it."""
        if self._index.is_due:
            self._refresh()
        was_pinned = entry_path(self.folder, key, pinned=True).exists()
        path = entry_path(self.folder, key, pinned=was_pinned)
        n_replaced_bytes = path.stat().st_size if path.exists() else 0
        used_ns = self._clock.tick()
        os.utime(part, ns=(used_ns, used_ns))
        part.replace(path)
        self._index.added(n_bytes, n_replaced_bytes)
        if pinned and not was_pinned:
            path.replace(entry_path(self.folder, key, pinned=True))
        if pinned != was_pinned or was_pinned:
            self._index.forget()
        if self._index.evict(keep=key) or pinned or was_pinned:
            return True
        path.unlink()  # others have pinned the whole budget meanwhile
        self._index.forget()
        return False

    def _rename(self, key: str, *, pinned: bool) -> bool:
        _check_key(key)
        if not self.folder.is_dir():
            return False
        source, target = (entry_path(self.folder, key, pinned=p) for p in (not pinned, pinned))
        with self._warning_if_unwritable(), self._lock(), suppress(FileNotFoundError):
            source.replace(target)
            self._index.forget()
        return target.exists()

    def _places(self, key: str) -> tuple[Path, Path]:
        _check_key(key)
        return entry_path(self.folder, key, pinned=False), entry_path(self.folder, key, pinned=True)

    def _refresh(self) -> None:
        sweep(self.folder, self._index.refresh())

    @contextmanager
    def _warning_if_unwritable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a lock that stays taken is one too
            self._warn_once(
                "write",
                f"{self.folder}: cannot be written ({error.strerror or error}); results are computed again instead of "
                "kept. Free some space, or set AESEDGE_CACHE to a folder that can be written",
            )

    def _warn_once(self, what: str, message: str) -> None:
        with self._warned_mutex:
            if what in self._warned:
                return
            self._warned.add(what)
        _log.warning("%s", message)


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise UsageError(f"a key is 64 small hexadecimal digits, as aesedge.cache.keys makes them, not {key!r}")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
