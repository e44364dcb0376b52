"""A command that prints power again and again, read in a thread; knows nvidia-smi and powermetrics, no energy counters.

A value holds until the next one comes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from aesedge.inquiry import said_by

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Parse = Callable[[str], tuple[str, float] | None]

_INTERVAL_MS = 250  # GPUs average their power over a second themselves
_FIRST_WITHIN_S = 2.0
_END_WITHIN_S = 1.0
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_POWERMETRICS = re.compile(r"^(CPU|GPU|ANE|Package) Power: *([0-9.]+) *(mW|W)$", re.ASCII)


class _Sample(NamedTuple):
    at: float
    what: str
    watts: float


class PowerSampler:
    """Runs a command until it is closed.

    Args:
        name: what results call it.
        command: its name, looked up on PATH, and arguments; empty where it cannot run.
        parse: returns what a line is about, and its watts, or None for other lines.
        why_not: why it cannot run.
    """

    def __init__(self, name: str, command: Sequence[str], parse: Parse, why_not: str = "") -> None:
        self.name = name
        self.why_not = why_not
        self.is_absent = False
        """Whether there is no such command here, nor what it asks, as far as one can tell."""
        self._parse = parse
        self._samples: list[_Sample] = []
        self._first = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        program = shutil.which(command[0]) if command else None
        if program is None:
            self.is_absent = not why_not
            self.why_not = why_not or f"{name}: there is none here"
            return
        try:
            self._process = subprocess.Popen(  # noqa: S603 (the commands are below)
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            self.why_not = f"{name}: cannot be started: {error.strerror}"
            return
        self._thread = threading.Thread(target=self._read, name=f"aesedge-{name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        lines = self._process.stdout if self._process is not None else None
        with contextlib.suppress(OSError, ValueError):  # closed under our hands
            for line in lines or ():
                found = self._parse(line.strip())
                if found is not None:
                    self._samples.append(_Sample(time.monotonic(), *found))
                    self._first.set()
        self._first.set()  # it has ended: nothing is worth waiting for

    def wait_for_first(self) -> None:
        """Wait until there is a value, or none can be expected any more."""
        if self._process is not None:
            self._first.wait(_FIRST_WITHIN_S)

    def close(self) -> None:
        """End the command; closing twice does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
        except PermissionError:  # what sudo runs is root's
            said_by(["sudo", "-n", "kill", str(process.pid)])
        try:
            process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait(_END_WITHIN_S)
        self._thread.join(_END_WITHIN_S)
        if process.stdout is not None and not self._thread.is_alive():
            process.stdout.close()
        if not self._samples:
            self.why_not = f"{self.name}: no power was told"

    def mean_watts(self, since: float, until: float) -> dict[str, float]:
        """Return the mean power of everything that was told, over a time of the monotonic clock."""
        samples = list(self._samples)
        return {
            what: _mean([s for s in samples if s.what == what], since, until) for what in {s.what: 0 for s in samples}
        }


def _mean(samples: Sequence[_Sample], since: float, until: float) -> float:
    """Return the mean of values that hold until the next one; before the first one, that one holds."""
    energy, watts, at = 0.0, samples[0].watts, since
    for sample in samples:
        if sample.at > until:
            break
        if sample.at > at:
            energy += watts * (sample.at - at)
            at = sample.at
        watts = sample.watts
    return (energy + watts * (until - at)) / (until - since) if until > since else watts


def nvidia_sampler() -> PowerSampler:
    """Return one that asks nvidia-smi for every GPU's power, four times a second."""
    query = ["--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits", f"--loop-ms={_INTERVAL_MS}"]
    return PowerSampler("nvidia-smi", ["nvidia-smi", *query], _of_nvidia)


def _of_nvidia(line: str) -> tuple[str, float] | None:
    index, _, rest = line.partition(",")
    name, _, watts = rest.rpartition(",")
    if not index.strip().isdecimal() or not _NUMBER.fullmatch(watts.strip()):  # "[N/A]": the GPU does not tell
        return None
    return f"{index.strip()}: {name.strip()}", float(watts)


def powermetrics_sampler() -> PowerSampler:
    """Return one that runs macOS's powermetrics, where sudo needs no password."""
    name = "powermetrics"
    if said_by(["sudo", "-n", "true"]) is None:
        return PowerSampler(name, [], _of_powermetrics, f"{name}: needs root, and sudo would ask for a password")
    command = ["sudo", "-n", name, "--samplers", "cpu_power,gpu_power", "-i", str(_INTERVAL_MS)]
    return PowerSampler(name, command, _of_powermetrics)


def _of_powermetrics(line: str) -> tuple[str, float] | None:
    found = _POWERMETRICS.match(line)
    if found is None or not _NUMBER.fullmatch(found[2]):
        return None
    return found[1], float(found[2]) / (1000 if found[3] == "mW" else 1)
