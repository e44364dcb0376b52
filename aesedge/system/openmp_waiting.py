"""Let OpenMP's threads spin while the cores are ours, and sleep soon while other programs need them.

Threads that share a product wait for each other many times in every layer. GNU's OpenMP, with which llama.cpp is
built on Linux, has them spin 300,000 rounds before they sleep: best on an idle machine, and 9 times as slow beside
one busy core, since a thread then spins where the one that it waits for could run. It spins 1,000 rounds only while
there are more OpenMP threads than cores (``gomp_managed_threads`` in libgomp's ``config/linux/wait.h``). So a team of
threads that do nothing but sleep switches between the two at run time; figures are in docs/speed.md. What the user
set wins.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import psutil

from aesedge.system.load import busy_seconds
from aesedge.system.machine import n_cores

USERS_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user sets how threads wait; OpenMP reads them when it is loaded."""
_WINDOW_S = 0.25
"""The least time to judge by: the system counts in hundredths of a second."""
_STALE_S = 2.0
_MANY_CORES = 0.3
"""More than this of our cores taken by others, and threads sleep soon."""
_FEW_CORES = 0.15
"""Less than this, and they spin again."""


class OpenmpWaiting:
    """How this process's OpenMP threads wait for each other; one for the process, as OpenMP's threads are."""

    def __init__(self) -> None:
        self.enabled = sys.platform == "linux" and not any(name in os.environ for name in USERS_CHOICE)
        """Whether it is ours to say. Set it to False before the first batch for OpenMP's own default."""
        self._lock = threading.Lock()
        self._before: tuple[float, float, float] | None = None
        self._spare: threading.Event | None = None
        """Set to end the thread that holds the sleeping team."""

    @property
    def sleeps_soon(self) -> bool:
        """Whether waiting threads sleep after 1,000 rounds now."""
        return self._spare is not None

    def __str__(self) -> str:
        """Describe it for a benchmark's card."""
        found = [f"{name}={os.environ[name]}" for name in USERS_CHOICE if name in os.environ]
        if found:
            return ", ".join(found)
        return "spinning, sleeping soon beside other programs" if self.enabled else "OpenMP's own default"

    def prepare(self) -> None:
        """Begin to count what other programs take, unless it was begun just now; call it before work of some length."""
        if self.enabled and self._lock.acquire(blocking=False):
            try:
                now = time.monotonic()
                if self._before is None or now - self._before[0] > _STALE_S:
                    self._before = _look()
            finally:
                self._lock.release()

    def adapt(self, n_threads: int) -> None:
        """Choose by what other programs took since the last call; call it before every batch.

        Args:
            n_threads: threads that the batch is computed with.
        """
        before = self._before
        if not self.enabled or (before is not None and time.monotonic() - before[0] < _WINDOW_S):
            return
        if self._lock.acquire(blocking=False):  # another model's thread is at it
            try:
                now = _look()
                if self._before is not None and now[0] > self._before[0]:
                    took = now[0] - self._before[0]
                    others = (now[1] - self._before[1] - (now[2] - self._before[2])) / took
                    self._choose(others - (n_cores() - n_threads))
                self._before = now
            finally:
                self._lock.release()

    def _choose(self, taken: float) -> None:
        """Switch if others take more, or less, of the cores that our threads run on."""
        if self._spare is None and taken > _MANY_CORES:
            self._spare = threading.Event()
            threading.Thread(target=_hold_team, args=(self._spare,), name="openmp-team", daemon=True).start()
        elif self._spare is not None and taken < _FEW_CORES:
            self._spare.set()
            self._spare = None


def _look() -> tuple[float, float, float]:
    """Return in seconds the time, what the cores of this process have worked so far, and what it has worked itself."""
    cores = psutil.cpu_times(percpu=True)
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(len(cores)))
    counted = [core for i, core in enumerate(cores) if i in ours] or cores
    return time.monotonic(), sum(map(busy_seconds, counted)), time.process_time()


def _hold_team(stop: threading.Event) -> None:
    """Keep a team of more threads than there are cores asleep until told to stop; it ends with this thread."""
    for runtime in _runtimes():
        # Any function that takes nothing and does nothing will do: each thread calls it once.
        runtime.GOMP_parallel(runtime.omp_in_parallel, None, n_cores() + 1, 0)
    stop.wait()


def _runtimes() -> list[ctypes.CDLL]:
    """Return the GNU OpenMP runtimes that are loaded: several where packages bring their own."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "libgomp" in line.rpartition("/")[2]}
    found = []
    for path in sorted(paths):
        try:
            runtime = ctypes.CDLL(path)
            if hasattr(runtime, "GOMP_parallel") and hasattr(runtime, "omp_in_parallel"):
                found.append(runtime)
        except OSError:  # replaced on the disk since it was loaded
            continue
    return found


openmp_waiting = OpenmpWaiting()
