"""How many watts a machine drew between two moments, where it tells; knows counters and commands, not what ran.

Processors count energy (RAPL, on Intel and AMD); GPUs are asked for their power again and again, and so are Macs. That
is what the chips draw, without power supply, screen and disks.
"""

from __future__ import annotations

import platform
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aesedge.bench.power_sampler import PowerSampler, nvidia_sampler, powermetrics_sampler
from aesedge.inquiry import number_in, text_in

if TYPE_CHECKING:
    from collections.abc import Callable

_POWERCAP = "sys/class/powercap"
_READ_EVERY_S = 10.0
"""RAPL's counters wrap around after minutes at full power; a wrap is seen if they are read more often."""


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

    Entering waits until sampled sources have given their first value, two seconds at most, so that their start is not
    in what is measured.

    Args:
        root: where ``sys`` lies.
        system: as :func:`platform.system` calls it; empty is this one.
    """

    def __init__(self, root: Path = Path("/"), system: str = "") -> None:
        system = system or platform.system()
        self.power = Power(None, None, "", "nothing was measured yet")
        """What was drawn; complete after exit."""
        self._rapl = _Rapl(root) if system == "Linux" else None
        starts: list[Callable[[], PowerSampler]] = [nvidia_sampler]
        if system == "Darwin":
            starts = [powermetrics_sampler]
        self._starts = starts
        self._samplers: list[PowerSampler] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PowerMeter:
        self._done.clear()
        self._samplers = [start() for start in self._starts]
        try:
            for sampler in self._samplers:
                sampler.wait_for_first()
        except BaseException:  # Ctrl-C: nobody calls exit then
            self._close()
            raise
        if self._rapl is not None and self._rapl.domains:
            self._thread = threading.Thread(target=self._keep_reading, name="aesedge-power", daemon=True)
        self._since = time.monotonic()
        if self._rapl is not None:
            self._rapl.begin()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._rapl is not None:
            self._rapl.read()
        until = time.monotonic()
        self._close()
        self.power = self._sum(self._since, until)

    def _close(self) -> None:
        for sampler in self._samplers:
            sampler.close()

    def _keep_reading(self) -> None:
        while self._rapl is not None and not self._done.wait(_READ_EVERY_S):
            self._rapl.read()

    def _sum(self, since: float, until: float) -> Power:
        took = max(until - since, 1e-9)
        joules = {} if self._rapl is None else {f"RAPL {name}": n for name, n in self._rapl.joules.items()}
        for sampler in self._samplers:
            found = sampler.mean_watts(since, until)
            joules |= {f"{sampler.name} {what}": watts * took for what, watts in found.items()}
        sources: list[_Rapl | PowerSampler] = [*([] if self._rapl is None else [self._rapl]), *self._samplers]
        # A machine that tells its power need not say what it does not have.
        reasons = "; ".join(s.why_not for s in sources if s.why_not and not (joules and s.is_absent))
        if not joules:
            return Power(None, None, "", reasons)
        total = sum(joules.values())
        parts = {name: n / took for name, n in joules.items()}
        return Power(total / took, total, " + ".join(joules), reasons, parts)


class _Rapl:
    """Energy counters of processor packages; a package that two drivers count is counted once."""

    def __init__(self, root: Path) -> None:
        self.domains: dict[str, Path] = {}
        self.joules: dict[str, float] = {}
        self.why_not = ""
        self.is_absent = False
        self._last: dict[str, int] = {}
        packages: dict[str, list[Path]] = {}
        # Only packages: cores and memory are parts of them. The MMIO driver counts the same ones a second time.
        for folder in sorted((root / _POWERCAP).glob("*"), key=lambda f: ("mmio" in f.name, f.name)):
            name = text_in(folder / "name") or ""
            if name.startswith("package"):
                packages.setdefault(" ".join(name.split())[:30], []).append(folder)
        for name, folders in packages.items():
            readable = next((f for f in folders if number_in(f / "energy_uj") is not None), None)
            if readable is not None:
                self.domains[name] = readable
        if not packages:
            self.is_absent = True
            self.why_not = "RAPL: this machine has none, as most virtual machines"
        elif len(self.domains) < len(packages):
            missing = ", ".join(sorted(packages.keys() - self.domains.keys()))
            self.why_not = f"RAPL: only root may read {missing} (or: sudo chmod a+r {root / _POWERCAP}/*/energy_uj)"

    def begin(self) -> None:
        """Count from here."""
        self.joules, self._last = {}, {}
        self.read()

    def read(self) -> None:
        """Add what was used since the last reading."""
        for name, folder in self.domains.items():
            now = number_in(folder / "energy_uj")
            if now is None:
                continue
            if name in self._last:
                used = now - self._last[name]
                if used < 0:  # the counter has begun again
                    used += number_in(folder / "max_energy_range_uj") or 0
                self.joules[name] = self.joules.get(name, 0.0) + max(0, used) / 1e6
            self._last[name] = now
