"""Measure the mean power of a machine between two moments, where it can be read.

Processors count energy (RAPL, on Intel and AMD); nvidia-smi and macOS's powermetrics are asked for the power again and
again. That is what the chips draw, without power supply, screen and disks.
"""

from __future__ import annotations

import platform
import re
import shutil
import threading
import time
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from aesedge.system.commands import command_output, number_in, nvidia_smi, read_text

_POWERCAP = "sys/class/powercap"
_EVERY_S = 0.5
_ABSENT = "there is none here"
_ANSWER_WITHIN_S = 2.0
_POWERMETRICS = re.compile(r"^(CPU|GPU|ANE|Package) Power: *(\d{1,6}(?:\.\d{1,6})?) *(mW|W)$", re.ASCII | re.MULTILINE)
_WATTS = re.compile(r"\d{1,6}(?:\.\d{1,6})?", re.ASCII)


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

    Args:
        root: where ``sys`` lies.
        system: as :func:`platform.system` names it; empty is this one.
    """

    def __init__(self, root: Path = Path("/"), system: str = "") -> None:
        system = system or platform.system()
        self.power = Power(None, "", "nothing was measured yet")
        """Complete after exit."""
        self._counters, self._no_rapl = _rapl(root) if system == "Linux" else ({}, "")
        self._name, self._ask = ("powermetrics", _powermetrics) if system == "Darwin" else ("nvidia-smi", _nvidia_smi)
        self._no_command = _why_not(self._name)

    def __enter__(self) -> PowerMeter:
        self._samples: dict[str, list[float]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        if not self._no_command:
            self._thread.start()
        self._since, self._before = time.monotonic(), self._energy()
        return self

    def __exit__(self, *_exc: object) -> None:
        took, after = max(time.monotonic() - self._since, 1e-9), self._energy()
        self._done.set()
        watts = {}
        for name, folder in self._counters.items():
            before, now = self._before[name], after[name]
            if before is not None and now is not None:
                if now < before:  # the counter wrapped around
                    now += number_in(folder / "max_energy_range_uj") or 0
                watts[f"RAPL {name}"] = max(0, now - before) / 1e6 / took
        if not self._no_command:
            self._thread.join()
            watts |= {f"{self._name} {what}": fmean(samples) for what, samples in self._samples.items()}
        no_command = self._no_command or ("" if self._samples else f"{self._name}: no power was told")
        # A machine with one source need not say which others it lacks.
        is_absent = no_command.endswith(_ABSENT)
        reasons = [self._no_rapl if self._counters or not watts else "", "" if watts and is_absent else no_command]
        self.power = Power(sum(watts.values()) if watts else None, " + ".join(watts), "; ".join(filter(None, reasons)))

    def _energy(self) -> dict[str, int | None]:
        return {name: number_in(folder / "energy_uj") for name, folder in self._counters.items()}

    def _poll(self) -> None:
        while True:
            for what, watts in self._ask().items():
                self._samples.setdefault(what, []).append(watts)
            if self._done.wait(_EVERY_S):
                return


def _why_not(command: str) -> str:
    """Return why a command cannot be asked, or an empty text."""
    if shutil.which(command) is None and command == "nvidia-smi":
        return f"{command}: {_ABSENT}"
    if command == "powermetrics" and command_output(["sudo", "-n", "true"]) is None:
        return f"{command}: needs root, and sudo would ask for a password"
    return ""


def _nvidia_smi() -> dict[str, float]:
    """Return the power of every GPU that tells it, in watts."""
    rows = nvidia_smi("name", "index", "power.draw", timeout_s=_ANSWER_WITHIN_S)
    return {f"{index}: {name}": float(watts) for name, index, watts in rows if _WATTS.fullmatch(watts)}


def _powermetrics() -> dict[str, float]:
    """Return the power of a Mac's chips, in watts, over a quarter of a second."""
    command = ["sudo", "-n", "powermetrics", "--samplers", "cpu_power,gpu_power", "-i", "250", "-n", "1"]
    said = command_output(command, timeout_s=_ANSWER_WITHIN_S) or ""
    return {name: float(n) / (1000 if unit == "mW" else 1) for name, n, unit in _POWERMETRICS.findall(said)}


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
