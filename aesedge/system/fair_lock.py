"""Provide a FIFO lock."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class FairLock:
    """A FIFO lock: a thread that releases and reacquires it queues behind the others.

    Vision tower and language model take turns with it on the same cores: native thread pools wait by spinning, and two
    of them on the same cores would stop each other many times a millisecond.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._line: deque[threading.Event] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Acquire the lock for the block."""
        mine = threading.Event()
        with self._mutex:
            self._line.append(mine)
            if self._line[0] is mine:
                mine.set()
        try:
            mine.wait()
            yield
        finally:
            with self._mutex:
                self._line.remove(mine)
                if self._line:
                    self._line[0].set()
