"""How children of the supervisor are started: in a group of their own, and never left behind."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def ends_with_parent() -> dict[str, Any]:
    """Return keywords for ``subprocess.Popen``: the child is killed when the supervisor dies, however it dies.

    Linux alone can promise the latter. The supervisor has one thread, so that a function may run between fork and exec;
    the kernel counts the death of the thread that started the child.
    """
    if sys.platform != "linux":
        return {"start_new_session": True}
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return {"start_new_session": True, "preexec_fn": lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)}
