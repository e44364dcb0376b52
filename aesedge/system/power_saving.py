"""Read whether this machine saves power, and so holds its processor back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psutil

from aesedge.system.commands import command_output, number_in, read_text
from aesedge.system.noise_source import NoiseSource, unknown

if TYPE_CHECKING:
    from pathlib import Path

_CPU = "sys/devices/system/cpu"
_NO_CPUFREQ = "no cpufreq here, as in most virtual machines"
_LINUX = {
    "governor": (f"{_CPU}/cpufreq", "policy*/scaling_governor", {"powersave", "conservative", "userspace"}),
    "energy preference": (f"{_CPU}/cpufreq", "policy*/energy_performance_preference", {"power", "balance_power"}),
    "power profile": ("sys/firmware/acpi", "platform_profile", {"low-power", "quiet", "cool"}),
}
"""What is read: where, and the values that save power."""
_UNKNOWN = {"energy preference": "the processor's driver has none", "power profile": "the firmware has none"}
_OWN_GOVERNORS = {"intel_pstate", "amd-pstate-epp"}
"""Drivers that decide themselves: their powersave is the ordinary, dynamic governor."""
_LIMITED = 0.98  # of the highest frequency; rounding is less
_POWER_SAVER = "a1841308-3541-4fab-bc81-f71556f20b4a"
"""Windows' GUID of the scheme that saves power, whatever its name is in the user's language."""
_REMEDIES = {
    "Linux": {
        "governor": "sudo cpupower frequency-set --governor performance",
        "energy preference": "powerprofilesctl set performance",
        "power profile": "powerprofilesctl set performance",
    },
    "Darwin": {"power profile": "sudo pmset -a lowpowermode 0"},
    "Windows": {"power profile": "powercfg /setactive SCHEME_BALANCED"},
}


def remedy(what: str, system: str) -> str:
    """Return what to type against something that saves power, or an empty text."""
    return _REMEDIES.get(system, {}).get(what, "")


def linux(root: Path) -> list[NoiseSource]:
    """Read cpufreq, the firmware's profile and the battery."""
    found = {what: _setting(root, what, *where) for what, where in _LINUX.items()}
    drivers = _texts(root / _CPU, "cpufreq/policy*/scaling_driver")
    governor = found["governor"]
    if governor.known and drivers:
        saves = governor.disturbs and not drivers & _OWN_GOVERNORS
        found["governor"] = NoiseSource("governor", f"{governor.found}, of {_and(drivers)}", disturbs=saves)
    no_turbo, boost = number_in(root / _CPU / "intel_pstate/no_turbo"), number_in(root / _CPU / "cpufreq/boost")
    is_off = no_turbo == 1 or boost == 0
    turbo = NoiseSource("turbo", "switched off" if is_off else "on", disturbs=is_off)
    return [
        found["governor"],
        _frequency_limit(root),
        unknown("turbo", _NO_CPUFREQ) if no_turbo is None and boost is None else turbo,
        found["energy preference"],
        found["power profile"],
        _linux_battery(root),
    ]


def macos() -> list[NoiseSource]:
    """Read the low power mode, and the battery."""
    mode = re.search(r"^\s*(?:lowpowermode|powermode)\s+(\d+)", command_output(["pmset", "-g"]) or "", re.MULTILINE)
    if mode is None:
        return [unknown("power profile", "pmset tells no power mode"), battery()]
    is_on = mode[1] == "1"
    return [NoiseSource("power profile", f"low power mode is {'on' if is_on else 'off'}", disturbs=is_on), battery()]


def windows() -> list[NoiseSource]:
    """Read the power scheme, and the battery."""
    said = (command_output(["powercfg", "/getactivescheme"]) or "").lower()
    if not said:
        return [unknown("power profile", "powercfg does not answer"), battery()]
    name = re.search(r"\((.*)\)", said)
    return [NoiseSource("power profile", name[1] if name else said, disturbs=_POWER_SAVER in said), battery()]


def battery() -> NoiseSource:
    """Return whether the machine runs on its battery, where psutil tells."""
    try:
        found: Any = psutil.sensors_battery()  # its types know no power_plugged of None, which its manual has
    except (AttributeError, OSError, RuntimeError, NotImplementedError):  # not every system has it
        return unknown("battery", "this system does not tell")
    if found is None:
        return NoiseSource("battery", "none", disturbs=False)
    if found.power_plugged is None:
        return unknown("battery", "whether power is plugged in")
    return _battery(on_mains=bool(found.power_plugged), percent=int(found.percent))


def _battery(*, on_mains: bool, percent: int | None) -> NoiseSource:
    charge = "" if percent is None else f", {percent} % charged"
    return NoiseSource("battery", f"{'plugged in' if on_mains else 'runs on it'}{charge}", disturbs=not on_mains)


def _setting(root: Path, what: str, folder: str, files: str, saving: set[str]) -> NoiseSource:
    values = _texts(root / folder, files)
    if not values:
        return unknown(what, _UNKNOWN.get(what, _NO_CPUFREQ))
    return NoiseSource(what, _and(values), disturbs=bool(values & saving))


def _frequency_limit(root: Path) -> NoiseSource:
    policies = (root / _CPU / "cpufreq").glob("policy*")
    limits = [(number_in(p / "scaling_max_freq"), number_in(p / "cpuinfo_max_freq")) for p in policies]
    known = [(limit, most) for limit, most in limits if limit and most and limit > 0 and most > 0]
    if not known:
        return unknown("frequency limit", _NO_CPUFREQ)
    limit, most = min(known, key=lambda pair: pair[0] / pair[1])
    is_limited = limit < _LIMITED * most
    found = f"{limit / 1e6:.2f} of {most / 1e6:.2f} GHz" if is_limited else f"none below {most / 1e6:.2f} GHz"
    return NoiseSource("frequency limit", found, disturbs=is_limited)


def _linux_battery(root: Path) -> NoiseSource:
    """Return whether the machine runs on its battery; psutil would take a mouse's for the machine's."""
    folder = root / "sys/class/power_supply"
    supplies = [p for p in sorted(folder.glob("*")) if (read_text(p / "scope") or "").lower() != "device"]
    batteries = [p for p in supplies if read_text(p / "type") == "Battery"]
    mains = [number_in(p / "online") for p in supplies if read_text(p / "type") in {"Mains", "USB"}]
    if not folder.is_dir():
        return unknown("battery", "this system does not tell")
    if not batteries:
        return NoiseSource("battery", "none", disturbs=False)
    discharges = any(read_text(p / "status") == "Discharging" for p in batteries)
    percent = next((n for p in batteries if (n := number_in(p / "capacity")) is not None), None)
    return _battery(on_mains=1 in mains or not discharges, percent=percent)


def _texts(folder: Path, files: str) -> set[str]:
    """Return the beginnings of files in one line each: a file of the system may hold anything."""
    return {" ".join(text.split())[:60] for path in folder.glob(files) if (text := read_text(path))}


def _and(words: set[str]) -> str:
    return " and ".join(sorted(words))
