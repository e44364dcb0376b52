"""Provide a FIFO lock."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class FairLock:
    """A lock that is fair: who gives it back and wants it again goes to the end of the line.

    Where vision tower and language model would share the same cores, they take turns: threads of native code wait for
    one another by spinning, and two sets of them on the same cores stop each other many times a millisecond.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._line: deque[threading.Event] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the turn, and keep it for the block."""
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
