"""What this machine has; knows cores, not what they are used for."""

from __future__ import annotations

import os

import psutil

_SMALL = 4  # with fewer logical processors than this, leaving one of a pair idle costs more than it gains


def default_n_threads() -> int:
    """Return how many threads native code should use: one per physical core, all logical ones on small machines."""
    affinity = getattr(os, "sched_getaffinity", None)
    n_logical = len(affinity(0)) if affinity else os.cpu_count() or 1
    n_physical = psutil.cpu_count(logical=False) or n_logical
    return n_logical if n_logical <= _SMALL else max(1, min(n_logical, n_physical))
