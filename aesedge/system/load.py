"""Tell what else keeps this machine busy, from counters read twice: programs, the host, quotas, swapping."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from aesedge.system.commands import parse_int, read_text
from aesedge.system.machine import control_groups, n_cores
from aesedge.system.noise_source import NoiseSource, unknown

_ERRORS = (OSError, RuntimeError, ValueError, psutil.Error)
BUSY_CORES = 0.2
"""Of other programs. The system counts in hundredths of a second, so less may be chance in a short time."""
STOLEN_SHARE = 0.02
SWAPPED_BYTES_PER_S = 1e6
STALLED_SHARE = 1.0
"""Percent of the last ten seconds in which a program waited for memory."""
_MANY_PROCESSES = 1000  # to go through more of them takes too long


class Times(NamedTuple):
    """Seconds of all cores together since the start."""

    busy: float
    idle: float
    """Waiting for a disk included."""
    stolen: float | None
    """A virtual machine's cores were ready and its host ran something else; None where that is not counted."""

    @property
    def whole(self) -> float:
        """All of them."""
        return self.busy + self.idle + (self.stolen or 0.0)


class Look(NamedTuple):
    """Counters at one moment; None is what the system does not tell."""

    at: float
    """Seconds of a monotonic clock."""
    times: Times | None
    own_s: float
    """CPU seconds of this process."""
    swapped_bytes: int | None
    n_throttled: int | None
    """Periods in which a control group's quota was used up."""
    processes: dict[int, tuple[str, float]]
    """Name and CPU seconds of other processes, by number."""


def look(root: Path) -> Look:
    """Read the counters. With another root than ``/``, only files below it and the process's own time."""
    own, here = os.times(), root == Path("/")
    return Look(
        at=time.monotonic(),
        times=_times() if here else None,
        own_s=own.user + own.system,
        swapped_bytes=_swapped() if here else None,
        n_throttled=_throttled(root),
        processes=_processes() if here else {},
    )


def between(before: Look, after: Look, root: Path) -> list[NoiseSource]:
    """Return what happened between two looks."""
    return [_load(before, after), _stolen(before, after), _quota(before, after, root), _swapping(before, after, root)]


def _load(before: Look, after: Look) -> NoiseSource:
    took = after.at - before.at
    if before.times is None or after.times is None or took <= 0 or after.times.whole == before.times.whole:
        return unknown("load", "the system does not count what its cores do")
    busy = max(0.0, (after.times.busy - before.times.busy - (after.own_s - before.own_s)) / took)
    shares = [
        (seconds - before.processes.get(number, (name, 0.0))[1], f"{name} ({number})")
        for number, (name, seconds) in after.processes.items()
    ]
    most, name = max(shares, default=(0.0, ""))
    by = f", most by {name}" if busy >= BUSY_CORES and most >= BUSY_CORES * took / 2 else ""
    found = f"{busy:.1f} of {psutil.cpu_count() or 1} cores busy with other programs{by}"
    return NoiseSource("load", found, disturbs=busy >= BUSY_CORES)


def _stolen(before: Look, after: Look) -> NoiseSource:
    first, last = before.times, after.times
    if first is None or last is None or first.stolen is None or last.stolen is None or last.whole == first.whole:
        return unknown("stolen time", "the system does not count it")
    share = max(0.0, (last.stolen - first.stolen) / (last.whole - first.whole))
    since = last.stolen / max(1.0, last.whole)
    found = f"the host took {share:.1%} of the cores' time just now, {since:.1%} since the start"
    return NoiseSource("stolen time", found if since or share else "none", disturbs=share >= STOLEN_SHARE)


def _quota(before: Look, after: Look, root: Path) -> NoiseSource:
    quotas = [quota for folder, _ in control_groups("cpu", root) if (quota := _cores_of(folder)) is not None]
    if not quotas:
        return NoiseSource("quota", "none on the cores' time", disturbs=False)
    n_new = (after.n_throttled or 0) - (before.n_throttled or 0)
    paused = f", paused {n_new} times just now" if n_new > 0 else ""
    found = f"{min(quotas):.2g} of {n_cores()} cores' time{paused}"
    return NoiseSource("quota", found, disturbs=min(quotas) < n_cores() or n_new > 0)


def _cores_of(group: Path) -> float | None:
    """Return how many cores' time a control group has, or None where it has no limit."""
    words = (read_text(group / "cpu.max") or "").split()  # version 2: "150000 100000", or "max 100000"
    if len(words) != 2:
        words = [read_text(group / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    quota, period = (parse_int(word) for word in words)
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _swapping(before: Look, after: Look, root: Path) -> NoiseSource:
    words = (read_text(root / "proc/pressure/memory") or "").split()
    share = next((word.removeprefix("avg10=") for word in words if word.startswith("avg10=")), "")
    is_number = share.replace(".", "", 1).isdecimal() and share.isascii() and len(share) < 10
    stalled = float(share) if is_number else 0.0
    if (before.swapped_bytes is None or after.swapped_bytes is None) and stalled < STALLED_SHARE:
        return unknown("swapping", "the system does not count it")
    rate = ((after.swapped_bytes or 0) - (before.swapped_bytes or 0)) / max(after.at - before.at, 1e-3)
    waits = f", programs waited for memory {stalled:.0f} % of the last 10 s" if stalled >= STALLED_SHARE else ""
    found = f"{rate / 1e6:.1f} MB/s" if rate > 0 else "none just now"
    return NoiseSource("swapping", found + waits, disturbs=rate >= SWAPPED_BYTES_PER_S or stalled >= STALLED_SHARE)


def _times() -> Times | None:
    try:
        found = psutil.cpu_times()
    except _ERRORS:
        return None
    return Times(busy_seconds(found), found.idle + getattr(found, "iowait", 0.0), getattr(found, "steal", None))


def busy_seconds(times: Any) -> float:
    """Return how long cores have worked, guests included, of psutil's times of one core or of all together."""
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


def _swapped() -> int | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the kernel counts nothing
            swap = psutil.swap_memory()
    except _ERRORS:
        return None
    return int(swap.sin + swap.sout)


def _throttled(root: Path) -> int | None:
    texts = [read_text(folder / "cpu.stat") or "" for folder, _ in control_groups("cpu", root)]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("nr_throttled ")]
    known = [n for line in lines if (n := parse_int(line.split()[-1])) is not None]
    return sum(known) if known else None


def _processes() -> dict[int, tuple[str, float]]:
    if len(psutil.pids()) > _MANY_PROCESSES:
        return {}
    return {
        process.pid: (str(process.info["name"] or "?"), times.user + times.system)
        for process in psutil.process_iter(["name", "cpu_times"])
        if (times := process.info["cpu_times"]) is not None and process.pid != os.getpid()
    }
