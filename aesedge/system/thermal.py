"""Read whether heat or a lack of power holds this machine back, from sensors, firmware and drivers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psutil

from aesedge.system.commands import command_output, number_in, nvidia_smi, parse_int, read_text
from aesedge.system.noise_source import NoiseSource, unknown

if TYPE_CHECKING:
    from pathlib import Path

NEAR_TRIP = 5.0
"""Degrees Celsius below the temperature at which a processor is slowed down."""
_SENSORS = {"coretemp", "k10temp", "zenpower", "cpu_thermal"}
"""Drivers of processors' own sensors."""
_ZONE = re.compile("cpu|pkg|soc", re.IGNORECASE)
"""Names of processors' zones, which psutil reads where there is no hwmon."""
_GPU_TIMEOUT_S = 0.6
_GPU_SLOWED = {0x08: "hardware slowdown", 0x20: "heat (driver)", 0x40: "heat (hardware)", 0x80: "the power brake"}
"""Bits of NVIDIA's clocks_throttle_reasons.active."""
_AT_POWER_LIMIT = 0x04  # what every GPU that works hard reaches
_GPU_BUSY = 10  # percent
_PI_NOW = {1: "too low a voltage", 2: "a capped frequency", 4: "heat", 8: "its soft temperature limit"}
"""Bits of the Raspberry Pi's get_throttled that are about now."""


def throttle_events(root: Path) -> int | None:
    """Return how often since the start heat slowed the cores down (Intel); None where the system does not tell."""
    folders = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")
    counts = [number_in(folder / f"{part}_throttle_count") for folder in folders for part in ("core", "package")]
    known = [n for n in counts if n is not None]
    return sum(known) if known else None


def throttling(root: Path, before: int | None, after: int | None) -> NoiseSource:
    """Return whether the cores are slowed down, by two readings of :func:`throttle_events` or the Pi's firmware."""
    pi = read_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled") or ""
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", pi):
        reasons = [reason for bit, reason in _PI_NOW.items() if int(pi, 16) & bit]
        found = f"slowed down by {' and '.join(reasons)}" if reasons else "none now"
        return NoiseSource("throttling", found, disturbs=bool(reasons))
    if before is None or after is None:
        return unknown("throttling", "the processor counts no slowdowns")
    now = f"{after - before} slowdowns by heat just now" if after > before else "none just now"
    return NoiseSource("throttling", f"{now}, {after} since the start", disturbs=after > before)


def temperature() -> NoiseSource:
    """Return how near a processor is to the temperature at which it is slowed down."""
    try:
        chips = psutil.sensors_temperatures()
    except (AttributeError, OSError, RuntimeError, ValueError):  # macOS and Windows tell psutil none
        chips = {}
    names = [name for name in chips if name in _SENSORS] or [name for name in chips if _ZONE.search(name)]
    found = [(reading.current, name, reading) for name in names for reading in chips[name] if _is_sane(reading.current)]
    if not found:
        return unknown("temperature", "no sensor can be read, as in most virtual machines")
    limits = [[limit for limit in (r.high, r.critical) if limit and _is_sane(limit)] for _, _, r in found]
    limited = [(min(known) - found[i][0], min(known), *found[i][:2]) for i, known in enumerate(limits) if known]
    if not limited:
        degrees, name, _ = max(found, key=lambda reading: reading[0])
        return NoiseSource("temperature", f"{degrees:.0f} °C ({name}); its limit is not told", disturbs=False)
    left, limit, degrees, name = min(limited)
    said = f"{degrees:.0f} °C ({' '.join(name.split())[:30]}), slowed down at {limit:.0f} °C"
    return NoiseSource("temperature", said, disturbs=left < NEAR_TRIP)


def _is_sane(degrees: float) -> bool:
    """Whether it is a temperature: what is not set is 0 or -274."""
    return 1 <= degrees <= 150


def nvidia_state() -> list[NoiseSource]:
    """Return whether NVIDIA's GPUs are slowed down or busy; nothing where there is no nvidia-smi."""
    fields = ("clocks_throttle_reasons.active", "utilization.gpu", "temperature.gpu")
    rows = nvidia_smi(*fields, timeout_s=_GPU_TIMEOUT_S)
    return [_one_gpu(f"gpu {i}" if i else "gpu", *row) for i, row in enumerate(rows)]


def _one_gpu(what: str, bits: str, busy: str, degrees: str) -> NoiseSource:
    heat = f", {degrees} °C" if parse_int(degrees) is not None else ""
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", bits):
        return unknown(what, "its driver does not say what slows it down")
    slowed = [reason for bit, reason in _GPU_SLOWED.items() if int(bits, 16) & bit]
    limit = ", at its power limit" if int(bits, 16) & _AT_POWER_LIMIT else ""
    if slowed:
        return NoiseSource(what, f"slowed down by {' and '.join(slowed)}{heat}", disturbs=True)
    percent = parse_int(busy) or 0
    return NoiseSource(what, f"{percent} % busy{heat}{limit}", disturbs=percent > _GPU_BUSY)


def macos_throttling() -> NoiseSource:
    """Return what macOS limits the processor's speed to."""
    limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", command_output(["pmset", "-g", "therm"]) or "")
    if limit is None:  # Apple's own chips say nothing until they have been slowed down once
        return unknown("throttling", "pmset tells no speed limit")
    return NoiseSource("throttling", f"speed limit {limit[1]} %", disturbs=int(limit[1][:9]) < 100)
