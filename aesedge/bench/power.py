"""Measure the mean power of a machine between two moments, where it can be read.

Processors count energy (RAPL, on Intel and AMD); nvidia-smi and macOS's powermetrics print power again and again. That
is what the chips draw, without power supply, screen and disks.
"""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from aesedge.system.commands import command_output, number_in, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_POWERCAP = "sys/class/powercap"
_INTERVAL_MS = "250"  # GPUs average their power over a second themselves
_FIRST_WITHIN_S = 2.0
_END_WITHIN_S = 1.0
_NVIDIA = re.compile(r"(\d+) *, *(.*?) *, *(\d{1,6}(?:\.\d{1,6})?)", re.ASCII)
_POWERMETRICS = re.compile(r"(CPU|GPU|ANE|Package) (Power): *(\d{1,6}(?:\.\d{1,6})?) *(mW|W)", re.ASCII)


class Power(NamedTuple):
    """Mean power over a time."""

    watts: float | None
    """Of all sources together; None where there is none."""
    source: str
    """``RAPL package-0 + nvidia-smi 0: NVIDIA H100``; empty where there is none."""
    why_not: str
    """Why a source is missing; empty where none is."""


class PowerMeter:
    """Measures between enter and exit, see :attr:`power`.

    Entering waits until a command has printed its first value, two seconds at most, so that its start is not measured.

    Args:
        root: where ``sys`` lies.
        system: as :func:`platform.system` names it; empty is this one.
    """

    def __init__(self, root: Path = Path("/"), system: str = "") -> None:
        self._system = system or platform.system()
        self.power = Power(None, "", "nothing was measured yet")
        """Complete after exit."""
        self._counters, self._no_rapl = _rapl(root) if self._system == "Linux" else ({}, "")

    def __enter__(self) -> PowerMeter:
        self._command = _powermetrics() if self._system == "Darwin" else _nvidia_smi()
        try:
            self._command.wait_for_first()
        except BaseException:  # Ctrl-C: exit is not called
            self._command.end()
            raise
        self._since, self._before = time.monotonic(), self._energy()
        return self

    def __exit__(self, *_exc: object) -> None:
        took, after = max(time.monotonic() - self._since, 1e-9), self._energy()
        watts = {}
        for name, folder in self._counters.items():
            before, now = self._before[name], after[name]
            if before is not None and now is not None:
                if now < before:  # the counter wrapped around
                    now += number_in(folder / "max_energy_range_uj") or 0
                watts[f"RAPL {name}"] = max(0, now - before) / 1e6 / took
        watts |= self._command.end()
        # A machine with one source need not say which others it lacks.
        reasons = [self._no_rapl] if self._no_rapl and not (watts and not self._counters) else []
        if self._command.why_not and not (watts and self._command.is_absent):
            reasons.append(self._command.why_not)
        self.power = Power(sum(watts.values()) if watts else None, " + ".join(watts), "; ".join(reasons))

    def _energy(self) -> dict[str, int | None]:
        return {name: number_in(folder / "energy_uj") for name, folder in self._counters.items()}


def _rapl(root: Path) -> tuple[dict[str, Path], str]:
    """Return the readable energy counters of processor packages by name, and why others are missing.

    Cores and memory are parts of packages, and the MMIO driver counts the same packages a second time.
    """
    found: dict[str, Path] = {}
    unreadable: set[str] = set()
    for folder in sorted((root / _POWERCAP).glob("*"), key=lambda f: ("mmio" in f.name, f.name)):
        name = " ".join((read_text(folder / "name") or "").split())[:30]
        if name.startswith("package"):
            if number_in(folder / "energy_uj") is None:
                unreadable.add(name)
            else:
                found.setdefault(name, folder)
    missing = ", ".join(sorted(unreadable - found.keys()))
    if missing:
        return found, f"RAPL: only root may read {missing} (or: sudo chmod a+r {root / _POWERCAP}/*/energy_uj)"
    return found, "" if found else "RAPL: this machine has none, as most virtual machines"


class _Command:
    """A command that prints power again and again, read in a thread until it is ended.

    Args:
        name: what results call it.
        command: its name, looked up on PATH, and arguments; empty where it cannot run.
        pattern: matches a line: two groups name the source, the third is its power, the fourth, if any, the unit.
        why_not: why it cannot run.
    """

    def __init__(self, name: str, command: Sequence[str], pattern: re.Pattern[str], why_not: str = "") -> None:
        self._name, self._pattern = name, pattern
        self._samples: dict[str, list[float]] = {}
        self._first = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        program = shutil.which(command[0]) if command else None
        self.is_absent = program is None and not why_not
        self.why_not = why_not or (f"{name}: there is none here" if program is None else "")
        if program is None:
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
        self._thread = threading.Thread(target=self._read, args=[self._process], daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError, ValueError):  # the pipe was closed
            for line in process.stdout or ():
                found = self._pattern.fullmatch(line.strip())  # "[N/A]" is no power
                if found is not None:
                    what = f"{self._name} {found[1]}" + (f": {found[2]}" if found[2] != "Power" else "")
                    milli = found.re.groups > 3 and found[4] == "mW"
                    self._samples.setdefault(what, []).append(float(found[3]) / (1000 if milli else 1))
                    self._first.set()
        self._first.set()  # it has ended: there is nothing to wait for

    def wait_for_first(self) -> None:
        """Wait until there is a value, or none can be expected."""
        if self._process is not None:
            self._first.wait(_FIRST_WITHIN_S)

    def end(self) -> dict[str, float]:
        """End the command; return the mean power of each source in watts."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.terminate()
            except PermissionError:  # sudo runs it as root
                command_output(["sudo", "-n", "kill", str(process.pid)])
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
                self.why_not = f"{self._name}: no power was told"
        return {what: fmean(samples) for what, samples in self._samples.items()}


def _nvidia_smi() -> _Command:
    query = ["--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits", f"--loop-ms={_INTERVAL_MS}"]
    return _Command("nvidia-smi", ["nvidia-smi", *query], _NVIDIA)


def _powermetrics() -> _Command:
    """Run macOS's powermetrics, where sudo needs no password."""
    name = "powermetrics"
    if command_output(["sudo", "-n", "true"]) is None:
        return _Command(name, [], _POWERMETRICS, f"{name}: needs root, and sudo would ask for a password")
    command = ["sudo", "-n", name, "--samplers", "cpu_power,gpu_power", "-i", _INTERVAL_MS]
    return _Command(name, command, _POWERMETRICS)
