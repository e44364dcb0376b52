"""Ctrl-C while native code runs; knows the signal, not what it interrupts.

Python handles SIGINT only between its own instructions. Inside a ctypes callback it would raise KeyboardInterrupt
where nobody can catch it. So the signal sets a flag that the callback reads, and the exception is raised afterwards.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class Interrupt:
    """Context manager around one native call; ``requested`` turns True when Ctrl-C was pressed during it.

    Leaving it after Ctrl-C raises KeyboardInterrupt. Outside the main thread, which never sees signals, it does
    nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None
        self._active = False

    def __enter__(self) -> Interrupt:
        in_main = threading.current_thread() is threading.main_thread()
        # A program that has its own way with SIGINT (not Python's default) keeps it.
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._request)
            self._active = True
        return self

    def _request(self, _signum: int, _frame: FrameType | None) -> None:
        self.requested = True

    def __exit__(self, exc_type: type[BaseException] | None, *_exc: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._previous)
            self._active = False
        if self.requested and exc_type is None:
            raise KeyboardInterrupt
