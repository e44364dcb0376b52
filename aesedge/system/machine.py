"""Count this machine's cores and memory."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_FEW_PROCESSORS = 4  # with so few, leaving one of a pair idle costs more than it gains
_SMALL_MODEL_BYTES = 100_000_000
_MOST_THREADS_PER_PROCESSOR = 4


def is_small_model(model_bytes: int) -> bool:
    """Return whether a model is so small that what surrounds its weights takes most of the time."""
    return model_bytes < _SMALL_MODEL_BYTES


def default_n_threads(model_bytes: int) -> int:
    """Return how many threads native code should use for a model of this size.

    One for a small model: its threads mostly wait for one another, and where another program takes a core from one of
    them, all do. Measured with pocket on two cores, one of them busy: 0.1 s a photo with one thread, 5 to 11 s with
    two. Otherwise one per physical core, or per logical one where there are few.
    """
    if is_small_model(model_bytes):
        return 1
    n_logical = n_cores()
    n_physical = psutil.cpu_count(logical=False) or n_logical
    return n_logical if n_logical <= _FEW_PROCESSORS else max(1, min(n_logical, n_physical))


def n_cores() -> int:
    """Return how many logical processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def most_threads() -> int:
    """Return how many threads are the most that this machine bears: with more, they only wait for one another."""
    return _MOST_THREADS_PER_PROCESSOR * n_cores()


def cpu_name() -> str:
    """Return the processor's model, as the system calls it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def package_version(package: str) -> str:
    """Return the version of an installed package, or an empty text."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def total_bytes() -> int:
    """Return the RAM of this machine, or of the container that this process runs in."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _container_limits())])


def available_bytes() -> int:
    """Return the RAM that can be taken without swapping, on this machine and in this process's container."""
    return max(0, min([int(psutil.virtual_memory().available), *(left for _, left in _container_limits())]))


def process_bytes() -> int:
    """Return the RAM that this process has now."""
    return int(psutil.Process().memory_info().rss)


def trim_heap() -> None:
    """Return freed memory to the system, which glibc would keep.

    Loading a vision graph frees as much as the graph takes, and glibc keeps it: 200 MB for CLIP-L in int8, measured.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache  # each CDLL is a class of its own, in cycles with itself
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # musl has none


def _container_limits(root: Path = Path("/")) -> list[tuple[int, int]]:
    """Return limit and rest of every control group of Linux that caps this process, in bytes.

    A group's pages of files can be dropped, so they count as left.
    """
    found = []
    for folder, version in control_groups("memory", root):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        found += _limit_of(folder, *names)
    return found


def control_groups(controller: str, root: Path = Path("/")) -> list[tuple[Path, int]]:
    """Return the folders of Linux's control groups that a controller puts this process in, each with its version.

    Args:
        controller: ``memory`` or ``cpu``.
        root: where ``proc`` and ``sys`` lie.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) < 3:
            continue
        _, controllers, path = parts
        if not controllers:
            mount, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            mount, version = root / "sys/fs/cgroup" / controllers, 1
        else:
            continue
        # In a container the path may be the host's, and what applies is at the mount itself.
        group = mount / path.lstrip("/")
        folders = dict.fromkeys([group, *group.parents])
        found += [(folder, version) for folder in folders if folder == mount or mount in folder.parents]
    return found


def _limit_of(folder: Path, limit_name: str, used_name: str) -> list[tuple[int, int]]:
    try:
        limit = int((folder / limit_name).read_text(encoding="ascii"))
        used = int((folder / used_name).read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no such group, or "max": no limit
        return []
    files = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    return [(limit, limit - used + files)]
