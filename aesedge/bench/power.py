"""Measure how many watts a machine drew between two moments, where it tells.

Processors count energy (RAPL, on Intel and AMD); GPUs are asked for their power again and again, and so are Macs. That
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
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aesedge.system.commands import command_output, number_in, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Parse = Callable[[str], tuple[str, float] | None]
    """Returns what a printed line is about, and its watts, or None for other lines."""

_POWERCAP = "sys/class/powercap"
_READ_EVERY_S = 10.0
"""RAPL's counters wrap around after minutes at full power; a wrap is seen if they are read more often."""
_INTERVAL_MS = "250"  # GPUs average their power over a second themselves
_FIRST_WITHIN_S = 2.0
_END_WITHIN_S = 1.0
_NVIDIA = re.compile(r"(\d+) *, *(.*?) *, *(\d{1,6}(?:\.\d{1,6})?)", re.ASCII)
_POWERMETRICS = re.compile(r"(CPU|GPU|ANE|Package) Power: *(\d{1,6}(?:\.\d{1,6})?) *(mW|W)", re.ASCII)


class Power(msgspec.Struct, frozen=True):
    """What was drawn, on average over a time."""

    watts: float | None
    """Of all sources together; None where no source tells."""
    joules: float | None
    source: str
    """What told it: ``RAPL package-0 + nvidia-smi NVIDIA H100``; empty where nothing did."""
    why_not: str
    """Why a source is missing; empty where none is."""
    parts: dict[str, float] = {}
    """Watts of each source."""


class PowerMeter:
    """Measures between enter and exit, see :attr:`power`.

    Entering waits until commands have printed their first value, two seconds at most, so that their start is not in
    what is measured.

    Args:
        root: where ``sys`` lies.
        system: as :func:`platform.system` calls it; empty is this one.
    """

    def __init__(self, root: Path = Path("/"), system: str = "") -> None:
        system = system or platform.system()
        self.power = Power(None, None, "", "nothing was measured yet")
        """What was drawn; complete after exit."""
        self._start = _powermetrics if system == "Darwin" else _nvidia_smi
        self._rapl = _Rapl(root) if system == "Linux" else None
        self._sources: list[_Rapl | _Command] = []

    def __enter__(self) -> PowerMeter:
        command = self._start()
        try:
            command.wait_for_first()
        except BaseException:  # Ctrl-C: nobody calls exit then
            command.end()
            raise
        self._sources = [*([] if self._rapl is None else [self._rapl]), command]
        self._since = time.monotonic()
        if self._rapl is not None:
            self._rapl.begin()
        return self

    def __exit__(self, *_exc: object) -> None:
        until = time.monotonic()
        for source in self._sources:
            source.end()
        joules = {name: n for source in self._sources for name, n in source.joules_of(self._since, until).items()}
        # A machine that tells its power need not say what it does not have.
        reasons = "; ".join(s.why_not for s in self._sources if s.why_not and not (joules and s.is_absent))
        if not joules:
            self.power = Power(None, None, "", reasons)
            return
        total, took = sum(joules.values()), max(until - self._since, 1e-9)
        parts = {name: n / took for name, n in joules.items()}
        self.power = Power(total / took, total, " + ".join(joules), reasons, parts)


class _Rapl:
    """Energy counters of processor packages; a package that two drivers count is counted once."""

    def __init__(self, root: Path) -> None:
        self.why_not = ""
        self._domains: dict[str, Path] = {}
        packages: dict[str, list[Path]] = {}
        # Only packages: cores and memory are parts of them. The MMIO driver counts the same ones a second time.
        for folder in sorted((root / _POWERCAP).glob("*"), key=lambda f: ("mmio" in f.name, f.name)):
            name = read_text(folder / "name") or ""
            if name.startswith("package"):
                packages.setdefault(" ".join(name.split())[:30], []).append(folder)
        for name, folders in packages.items():
            readable = next((f for f in folders if number_in(f / "energy_uj") is not None), None)
            if readable is not None:
                self._domains[name] = readable
        self.is_absent = not packages
        missing = ", ".join(sorted(packages.keys() - self._domains.keys()))
        if self.is_absent:
            self.why_not = "RAPL: this machine has none, as most virtual machines"
        elif missing:
            self.why_not = f"RAPL: only root may read {missing} (or: sudo chmod a+r {root / _POWERCAP}/*/energy_uj)"

    def begin(self) -> None:
        """Count from here."""
        self._joules: dict[str, float] = {}
        self._last: dict[str, int] = {}
        self._done = threading.Event()
        self._read()
        self._thread = threading.Thread(target=self._keep_reading, name="aesedge-power", daemon=True)
        if self._domains:
            self._thread.start()

    def end(self) -> None:
        """Count up to here."""
        self._done.set()
        if self._domains:
            self._thread.join()
        self._read()

    def joules_of(self, _since: float, _until: float) -> dict[str, float]:
        """Return what was counted."""
        return {f"RAPL {name}": n for name, n in self._joules.items()}

    def _keep_reading(self) -> None:
        while not self._done.wait(_READ_EVERY_S):
            self._read()

    def _read(self) -> None:
        """Add what was used since the last reading."""
        for name, folder in self._domains.items():
            now = number_in(folder / "energy_uj")
            if now is None:
                continue
            if name in self._last:
                used = now - self._last[name]
                if used < 0:  # the counter has begun again
                    used += number_in(folder / "max_energy_range_uj") or 0
                self._joules[name] = self._joules.get(name, 0.0) + max(0, used) / 1e6
            self._last[name] = now


class _Sample(NamedTuple):
    at: float
    what: str
    watts: float


class _Command:
    """A command that prints power again and again, read in a thread until it is ended; a value holds until the next.

    Args:
        name: what results call it.
        command: its name, looked up on PATH, and arguments; empty where it cannot run.
        parse: reads a line.
        why_not: why it cannot run.
    """

    def __init__(self, name: str, command: Sequence[str], parse: Parse, why_not: str = "") -> None:
        self._name, self._parse = name, parse
        self._samples: list[_Sample] = []
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

    def end(self) -> None:
        """End the command."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
        except PermissionError:  # what sudo runs is root's
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

    def joules_of(self, since: float, until: float) -> dict[str, float]:
        """Return the energy of everything that was told; before its first value, that one holds."""
        found: dict[str, float] = {}
        for what in dict.fromkeys(sample.what for sample in self._samples):
            samples = [sample for sample in self._samples if sample.what == what]
            ends = [max(since, min(until, sample.at)) for sample in samples[1:]] + [until]
            starts = [since, *ends[:-1]]
            spans = zip(samples, starts, ends, strict=True)
            took = max(until - since, 1e-9)
            whole = sum(sample.watts * (end - start) for sample, start, end in spans)
            found[f"{self._name} {what}"] = whole if until > since else samples[0].watts * took
        return found


def _nvidia_smi() -> _Command:
    """Ask for every GPU's power, four times a second."""
    query = ["--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits", f"--loop-ms={_INTERVAL_MS}"]

    def parse(line: str) -> tuple[str, float] | None:
        found = _NVIDIA.fullmatch(line)  # "[N/A]": the GPU does not tell
        return found and (f"{found[1]}: {found[2]}", float(found[3]))

    return _Command("nvidia-smi", ["nvidia-smi", *query], parse)


def _powermetrics() -> _Command:
    """Run macOS's powermetrics, where sudo needs no password."""
    name = "powermetrics"

    def parse(line: str) -> tuple[str, float] | None:
        found = _POWERMETRICS.fullmatch(line)
        return found and (found[1], float(found[2]) / (1000 if found[3] == "mW" else 1))

    if command_output(["sudo", "-n", "true"]) is None:
        return _Command(name, [], parse, f"{name}: needs root, and sudo would ask for a password")
    return _Command(name, ["sudo", "-n", name, "--samplers", "cpu_power,gpu_power", "-i", _INTERVAL_MS], parse)
