"""Lock a cache folder, or a file, against other threads and processes."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIMEOUT_S = 10.0  # the lock is held for milliseconds; a suspended process must not block all others
_POLL_S = 0.005


class FolderLock:
    """The lock of a folder.

    Args:
        folder: created with its parents, readable by its owner only, when the lock is first taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()  # threads of one process wait here without polling

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            OSError: the folder cannot be made or written, or another process does not let go.
        """
        from filelock import FileLock  # 40 ms that `import aesedge` does not take

        with self._mutex:
            if not self._folder.is_dir():
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                self._folder.mkdir(mode=0o700, exist_ok=True)
            lock = self._folder / ".lock"
            if lock.is_symlink() or (lock.exists() and not lock.is_file()):  # not made by aesedge
                lock.unlink()
            with FileLock(lock).acquire(timeout=_TIMEOUT_S, poll_interval=_POLL_S):
                yield


class LockHeldError(OSError):
    """Another process, or another part of this one, holds the lock."""


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file for as long as the block takes; it ends with the process, however that ends.

    Raises:
        LockHeldError: it is held already.
        OSError: the file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockHeldError(errno.EAGAIN, "another process holds it", str(path)) from None
    try:
        yield
    finally:
        lock.release()
