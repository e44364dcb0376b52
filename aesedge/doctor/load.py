"""What else keeps this machine busy: other programs, the host of a virtual machine, quotas, swapping; two short looks.

Each look reads counters; what lies between them is what happens now.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from aesedge.doctor.symptom import Disturbance, unknown
from aesedge.inquiry import text_in, whole_number
from aesedge.machine import control_groups, n_cores

BUSY_CORES = 0.2
"""Of other programs. The system counts in hundredths of a second, so that less may be chance in a short look."""
STOLEN_SHARE = 0.02
SWAPPED_BYTES_PER_S = 1e6
STALLED_SHARE = 1.0
"""Percent of the last ten seconds in which a program waited for memory."""
_TICKS_PER_S = 100  # USER_HZ, what Linux shows times in on every architecture that we know
_PAGE_BYTES = 4096
_MANY_PROCESSES = 1000  # to go through more of them would take longer than the look


class Look(NamedTuple):
    """Counters at one moment; None is what the system does not tell."""

    at: float
    """Seconds of a clock that only goes forward."""
    all_s: float | None
    """Seconds of all cores together since the start."""
    busy_s: float | None
    stolen_s: float | None
    """Seconds in which a virtual machine's cores were ready and its host ran something else."""
    own_s: float
    """Seconds of cores that this process took."""
    swapped_bytes: float | None
    n_throttled: int | None
    """Periods in which a control group's quota was used up."""
    processes: dict[int, tuple[str, float]]
    """Name and seconds of other processes, by number."""


def look(root: Path) -> Look:
    """Read the counters. With another root than ``/``, nothing is read of this machine but the process's own time."""
    times = os.times()
    here = root == Path("/")
    all_s, busy_s, stolen_s = _linux_times(root) or (_other_times() if here else (None, None, None))
    return Look(
        at=time.monotonic(),
        all_s=all_s,
        busy_s=busy_s,
        stolen_s=stolen_s,
        own_s=times.user + times.system,
        swapped_bytes=_swapped(root),
        n_throttled=_throttled(root),
        processes=_processes() if here else {},
    )


def between(before: Look, after: Look, root: Path) -> list[Disturbance]:
    """Say what happened between two looks."""
    return [_load(before, after), _stolen(before, after), _quota(before, after, root), _swapping(before, after, root)]


def _load(before: Look, after: Look) -> Disturbance:
    took, n_logical = after.at - before.at, psutil.cpu_count() or 1
    if before.busy_s is None or after.busy_s is None or took <= 0 or after.all_s == before.all_s:
        return unknown("load", "the system does not count what its cores do")
    busy = max(0.0, (after.busy_s - before.busy_s - (after.own_s - before.own_s)) / took)
    name, most = _busiest(before, after)
    by = f", most by {name}" if busy >= BUSY_CORES and most >= BUSY_CORES * took / 2 else ""
    found = f"{busy:.1f} of {n_logical} cores busy with other programs{by}"
    return Disturbance("load", found, disturbs=busy >= BUSY_CORES)


def _busiest(before: Look, after: Look) -> tuple[str, float]:
    """Return the process that took most of the cores, and how many seconds of them."""
    took = [
        (seconds - before.processes.get(number, (name, 0.0))[1], f"{name} ({number})")
        for number, (name, seconds) in after.processes.items()
    ]
    most, name = max(took, default=(0.0, ""))
    return name, most


def _stolen(before: Look, after: Look) -> Disturbance:
    if None in {before.stolen_s, after.stolen_s, before.all_s, after.all_s} or after.all_s == before.all_s:
        return unknown("stolen time", "the system does not count it")
    stolen, whole = (after.stolen_s or 0) - (before.stolen_s or 0), (after.all_s or 0) - (before.all_s or 0)
    since = (after.stolen_s or 0) / max(1.0, after.all_s or 0)
    share = max(0.0, stolen / whole)
    found = f"the host took {share:.1%} of the cores' time just now, {since:.1%} since the start"
    return Disturbance("stolen time", found if since or share else "none", disturbs=share >= STOLEN_SHARE)


def _quota(before: Look, after: Look, root: Path) -> Disturbance:
    quotas = [quota for folder, _ in control_groups("cpu", root) if (quota := _cores_of(folder)) is not None]
    n_new = (after.n_throttled or 0) - (before.n_throttled or 0)
    if not quotas:
        return Disturbance("quota", "none on the cores' time", disturbs=False)
    paused = f", paused {n_new} times just now" if n_new > 0 else ""
    found = f"{min(quotas):.2g} of {n_cores()} cores' time{paused}"
    return Disturbance("quota", found, disturbs=min(quotas) < n_cores() or n_new > 0)


def _cores_of(group: Path) -> float | None:
    """Return how many cores' time a control group has, or None where it has no limit."""
    words = (text_in(group / "cpu.max") or "").split()  # version 2: "150000 100000", or "max 100000"
    if len(words) != 2:
        words = [text_in(group / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    quota, period = (whole_number(word) for word in words)
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _swapping(before: Look, after: Look, root: Path) -> Disturbance:
    took = max(after.at - before.at, 1e-3)
    if before.swapped_bytes is None or after.swapped_bytes is None:
        return unknown("swapping", "the system does not count it")
    rate = (after.swapped_bytes - before.swapped_bytes) / took
    stalled = _stalled(root)
    waits = f", programs waited for memory {stalled:.0f} % of the last 10 s" if stalled >= STALLED_SHARE else ""
    found = f"{rate / 1e6:.1f} MB/s" if rate > 0 else "none just now"
    return Disturbance("swapping", found + waits, disturbs=rate >= SWAPPED_BYTES_PER_S or stalled >= STALLED_SHARE)


def _stalled(root: Path) -> float:
    words = (text_in(root / "proc/pressure/memory") or "").split()
    share = next((word.removeprefix("avg10=") for word in words if word.startswith("avg10=")), "")
    return float(share) if share.replace(".", "", 1).isdecimal() and share.isascii() and len(share) < 10 else 0.0


def _linux_times(root: Path) -> tuple[float, float, float] | None:
    """Return seconds of all cores, of busy ones, and stolen ones, from /proc/stat."""
    words = (text_in(root / "proc/stat") or "").partition("\n")[0].split()
    numbers = [whole_number(word) for word in words[1:9]]
    if words[:1] != ["cpu"] or len(numbers) < 8:
        return None
    user, nice, system, idle, waiting, irq, soft_irq, stolen = (n or 0 for n in numbers)
    busy = user + nice + system + irq + soft_irq
    return (busy + idle + waiting + stolen) / _TICKS_PER_S, busy / _TICKS_PER_S, stolen / _TICKS_PER_S


def _other_times() -> tuple[float | None, float | None, None]:
    try:
        times = psutil.cpu_times()
    except (OSError, RuntimeError, psutil.Error):
        return None, None, None
    busy = times.user + times.system + getattr(times, "nice", 0.0)
    return busy + times.idle, busy, None


def _swapped(root: Path) -> float | None:
    lines = (text_in(root / "proc/vmstat") or "").splitlines()
    pages = [whole_number(line.split()[-1]) for line in lines if line.startswith(("pswpin ", "pswpout "))]
    if pages:
        return float(sum(n or 0 for n in pages) * _PAGE_BYTES)
    try:
        swap = psutil.swap_memory() if root == Path("/") else None
    except (OSError, RuntimeError, psutil.Error):
        return None
    return None if swap is None else float(swap.sin + swap.sout)


def _throttled(root: Path) -> int | None:
    counts = []
    for folder, _ in control_groups("cpu", root):
        lines = (text_in(folder / "cpu.stat") or "").splitlines()
        counts += [whole_number(line.split()[-1]) for line in lines if line.startswith("nr_throttled ")]
    known = [n for n in counts if n is not None]
    return sum(known) if known else None


def _processes() -> dict[int, tuple[str, float]]:
    own, found = os.getpid(), {}
    if len(psutil.pids()) > _MANY_PROCESSES:
        return {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != own:
            found[process.pid] = (str(process.info["name"] or "?"), times.user + times.system)
    return found
