"""Interrupt native code, by Ctrl-C or from another thread.

Python handles SIGINT only between its own instructions; inside a ctypes callback KeyboardInterrupt cannot be caught. So
the signal sets a flag that native code reads, and the exception is raised afterwards.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from aesedge.system.ordered_map import wait_interruptible
from aesedge.system.termination import SIGNALS, terminate

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

T = TypeVar("T")


class AbortFlag:
    """A flag that llama.cpp's abort callback reads at every node of a graph without running Python.

    A Python callback would wait for the GIL at every node, some milliseconds whenever another thread is busy. So the
    callback is the C library's ``strlen``, and the flag is a text of length 0 (false) or 1.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.callback: Any = (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).strlen
        self.data = ctypes.cast(self._text, ctypes.c_void_p)

    @property
    def is_set(self) -> bool:
        """Whether work is to stop."""
        return self._text.raw[0] != 0

    def set(self) -> None:
        """Stop the running computation, and those after it until the flag is cleared."""
        self._text[0] = b"x"

    def clear(self) -> None:
        """Allow computations again."""
        self._text[0] = b"\0"


class Interrupt:
    """Context manager around one native call; ``requested`` turns True when Ctrl-C was pressed during it.

    Leaving it after Ctrl-C raises KeyboardInterrupt; SIGTERM and SIGHUP count as Ctrl-C where a command handles them
    (see :mod:`aesedge.system.termination`). Outside the main thread, which never sees signals, it does
    nothing.

    Args:
        stop: called when Ctrl-C is pressed; it must only set a flag.
    """

    def __init__(self, stop: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._stop = stop
        self._signum: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            # A program that has its own way with SIGINT (not Python's default) keeps it.
            handlers = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(SIGNALS, terminate)}
            for signum, handler in handlers.items():
                if signal.getsignal(signum) is handler:
                    self._previous[signum] = signal.signal(signum, self._request)
        return self

    def _request(self, signum: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._signum = signum
        if self._stop is not None:
            self._stop()

    def __exit__(self, exc_type: type[BaseException] | None, *_exc: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
        if self._signum is not None and self._signum in SIGNALS:
            terminate(self._signum, None)
        if self.requested and exc_type is None:
            raise KeyboardInterrupt


def result_unless_stopped(future: Future[T], abort: AbortFlag) -> T:
    """Return the result of native code on another thread; Ctrl-C stops it, and is raised once it has stopped.

    Args:
        future: of the work.
        abort: the flag that the work reads.
    """
    try:
        return wait_interruptible(future)
    except BaseException:
        abort.set()
        wait([future])
        abort.clear()
        raise
