"""Index the entries of a cache folder by last use, and evict the least recently used ones.

A scan of 20,000 entries takes as long as encoding a photo with a small model. So a process remembers its last scan, and
scans again after it has added a share of the budget (:data:`_BLIND_SHARE`): with several processes the folder may
briefly exceed its budget by that share each.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_BLIND_SHARE = 64
_ENTRY = re.compile(r"(?P<key>[0-9a-f]{64})\.(?P<sort>entry|pinned)")
_PART = re.compile(r"\.(?P<token>[0-9a-f]{16})\.(part|alive)")


class EntryInfo(NamedTuple):
    """Name, size and time of one entry."""

    key: str
    n_bytes: int
    pinned: bool
    used_ns: int
    """When it was last written or read, in nanoseconds since 1970."""


def entry_path(folder: Path, key: str, *, pinned: bool) -> Path:
    """Return where an entry lies. That it is pinned is in its name: a rename pins 300 MB at once, for all processes."""
    return folder / f"{key}.{'pinned' if pinned else 'entry'}"


def scan(folder: Path) -> tuple[list[EntryInfo], set[str]]:
    """Return the entries, least recently used first, and the tokens of files that are being written, or were.

    Files with other names are not ours: they are neither counted nor removed. On disks that keep times in seconds
    entries may tie; the key then decides, so that all processes agree on who goes first.
    """
    entries, tokens = [], set()
    with os.scandir(folder) as found:
        for item in found:
            if match := _ENTRY.fullmatch(item.name):
                with suppress(FileNotFoundError):  # another process removed it meanwhile
                    stat = item.stat(follow_symlinks=False)
                    pinned = match["sort"] == "pinned"
                    entries.append(EntryInfo(match["key"], stat.st_size, pinned, stat.st_mtime_ns))
            elif match := _PART.fullmatch(item.name):
                tokens.add(match["token"])
    entries.sort(key=lambda entry: (entry.used_ns, entry.key))
    return entries, tokens


class LogicalClock:
    """A clock that only moves forward: every use of an entry gets a later time than all uses before it.

    The system's clock alone does not: two uses may fall on one tick, and it steps back when it is set, which on a
    kiosk without a battery happens at every start. Then this clock continues from the latest time seen.
    """

    def __init__(self) -> None:
        self._latest_ns = 0
        self._mutex = threading.Lock()

    def tick(self) -> int:
        """Return the time of a use now, in nanoseconds."""
        with self._mutex:
            self._latest_ns = max(time.time_ns(), self._latest_ns + 1)
            return self._latest_ns

    def saw(self, used_ns: int) -> None:
        """Advance to the time of a use by another process."""
        with self._mutex:
            self._latest_ns = max(self._latest_ns, used_ns)


class LruIndex:
    """A process's view of a folder's entries; the caller holds the folder's lock.

    Args:
        folder: where the entries lie.
        budget_bytes: what they may take together, pinned ones included; None for no limit.
        clock: hears of the latest use.
    """

    def __init__(self, folder: Path, budget_bytes: int | None, clock: LogicalClock) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._queue: deque[EntryInfo] = deque()  # unpinned ones as of the last scan, least recently used first
        self._n_bytes = 0
        self._n_added_bytes: int | None = None  # since the last scan; None: what is known is not true any more
        self.n_pinned_bytes = 0
        """Bytes of the pinned entries, as of the last scan."""

    def refresh(self) -> set[str]:
        """Scan the folder; return the tokens of files that are being written, or were."""
        entries, tokens = scan(self._folder)
        self._queue = deque(entry for entry in entries if not entry.pinned)
        self._n_bytes = sum(entry.n_bytes for entry in entries)
        self.n_pinned_bytes = sum(entry.n_bytes for entry in entries if entry.pinned)
        self._n_added_bytes = 0
        if entries:
            self._clock.saw(entries[-1].used_ns)
        return tokens

    def forget(self) -> None:
        """Invalidate the last scan, after something was pinned or removed."""
        self._n_added_bytes = None

    def added(self, n_bytes: int, n_replaced_bytes: int) -> None:
        """Count an entry that was written, and what it replaced."""
        self._n_bytes += n_bytes - n_replaced_bytes
        if self._n_added_bytes is not None:
            self._n_added_bytes += n_bytes

    @property
    def is_due(self) -> bool:
        """Whether it is time to scan again."""
        if self._n_added_bytes is None:
            return True
        return self._budget_bytes is not None and self._n_added_bytes * _BLIND_SHARE >= self._budget_bytes

    def evict(self, *, keep: str) -> bool:
        """Remove the least recently used entries until the budget holds; return whether it does.

        Args:
            keep: the key that was just written; it stays.
        """
        if self._budget_bytes is None or self._n_bytes <= self._budget_bytes:
            return True
        self._evict_from_queue(keep)
        if self._n_bytes > self._budget_bytes:  # by now what was seen is used up, or other processes used it
            self.refresh()
            self._evict_from_queue(keep)
        return self._n_bytes <= self._budget_bytes

    def _evict_from_queue(self, keep: str) -> None:
        while self._budget_bytes is not None and self._n_bytes > self._budget_bytes and self._queue:
            oldest = self._queue.popleft()
            path = entry_path(self._folder, oldest.key, pinned=False)
            try:
                if oldest.key == keep or path.stat().st_mtime_ns != oldest.used_ns:
                    continue  # it was used since the scan, so it is newer than all that were not
                path.unlink()  # who is reading it reads on
            except FileNotFoundError:
                pass  # another process evicted it
            except OSError:
                continue  # it cannot be removed; the next one perhaps
            self._n_bytes -= oldest.n_bytes
