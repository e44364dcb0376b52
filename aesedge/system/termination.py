"""Treat SIGTERM and SIGHUP like Ctrl-C, so that open resources are closed and partial files removed."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """The whole process was asked to end, not only its current work."""


_received: list[int] = []


def terminate(signum: int, _frame: FrameType | None) -> None:
    """Handle the signal: unwind the main thread. A second one ends the process at once."""
    _received.append(signum)
    signal.signal(signum, signal.SIG_DFL)
    raise Terminated


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Handle the signals inside the block unless the program does; then end the process by the signal it received.

    So the parent process sees which signal it was.
    """
    _received.clear()
    handled = [signum for signum in SIGNALS if signal.getsignal(signum) is signal.SIG_DFL]
    try:
        for signum in handled:
            signal.signal(signum, terminate)
    except ValueError:  # not in the main thread, which alone handles signals
        handled = []
    try:
        yield
    finally:
        for signum in handled:
            signal.signal(signum, signal.SIG_DFL)
        for signum in _received[:1]:
            end_by(signum)


def end_by(signum: int) -> None:
    """End this process as the system would have ended it by this signal."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
