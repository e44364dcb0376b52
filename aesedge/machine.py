"""What this machine has; knows cores, not what they are used for."""

from __future__ import annotations

import os

import psutil

_FEW_PROCESSORS = 4  # with so few, leaving one of a pair idle costs more than it gains
_SMALL_MODEL_BYTES = 100_000_000


def default_n_threads(model_bytes: int) -> int:
    """Return how many threads native code should use for a model of this size.

    One for a small model: its threads mostly wait for one another, and where another program takes a core from one of
    them, all do. Measured with pocket on two cores, one of them busy: 0.1 s a photo with one thread, 5 to 11 s with
    two. Otherwise one per physical core, or per logical one where there are few.
    """
    if model_bytes < _SMALL_MODEL_BYTES:
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    n_logical = len(affinity(0)) if affinity else os.cpu_count() or 1
    n_physical = psutil.cpu_count(logical=False) or n_logical
    return n_logical if n_logical <= _FEW_PROCESSORS else max(1, min(n_logical, n_physical))
