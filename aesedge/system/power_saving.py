"""Whether this machine saves power, and so holds its processor back; reads settings, measures nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psutil

from aesedge.system.commands import command_output, number_in, read_text
from aesedge.system.noise_source import NoiseSource, unknown

if TYPE_CHECKING:
    from pathlib import Path

_CPUFREQ = "sys/devices/system/cpu/cpufreq"
_SAVING_GOVERNORS = {"powersave", "conservative", "userspace"}
_OWN_GOVERNORS = {"intel_pstate", "amd-pstate-epp"}
"""Drivers that decide themselves: what they call powersave is their ordinary, dynamic governor."""
_SAVING_PREFERENCES = {"power", "balance_power"}
_SAVING_PROFILES = {"low-power", "quiet", "cool"}
_LIMITED = 0.98  # of the highest frequency; rounding is less
_NO_CPUFREQ = "no cpufreq here, as in most virtual machines"
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
    """Look at cpufreq, the firmware's profile and the battery."""
    policies = sorted((root / _CPUFREQ).glob("policy*"))
    return [
        _governor(policies),
        _frequency_limit(policies),
        _turbo(root),
        _preference(policies),
        _profile(root),
        _linux_battery(root),
    ]


def macos() -> list[NoiseSource]:
    """Look at the low power mode, and at the battery."""
    said = command_output(["pmset", "-g"])
    mode = re.search(r"^\s*(?:lowpowermode|powermode)\s+(\d+)", said or "", re.MULTILINE)
    if mode is None:
        saving = unknown("power profile", "pmset tells no power mode")
    else:
        is_on = mode[1] == "1"
        saving = NoiseSource("power profile", f"low power mode is {'on' if is_on else 'off'}", disturbs=is_on)
    return [saving, battery()]


def windows() -> list[NoiseSource]:
    """Look at the power scheme, and at the battery."""
    said = (command_output(["powercfg", "/getactivescheme"]) or "").lower()
    name = re.search(r"\((.*)\)", said)
    if not said:
        scheme = unknown("power profile", "powercfg does not answer")
    else:
        scheme = NoiseSource("power profile", name[1] if name else said, disturbs=_POWER_SAVER in said)
    return [scheme, battery()]


def battery() -> NoiseSource:
    """Look whether the machine runs on its battery, where psutil tells."""
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


def _governor(policies: list[Path]) -> NoiseSource:
    governors = _texts(policies, "scaling_governor")
    if not governors:
        return unknown("governor", _NO_CPUFREQ)
    drivers = _texts(policies, "scaling_driver")
    saves = bool(governors & _SAVING_GOVERNORS) and not drivers & _OWN_GOVERNORS
    by = f", of {_and(drivers)}" if drivers else ""
    return NoiseSource("governor", _and(governors) + by, disturbs=saves)


def _frequency_limit(policies: list[Path]) -> NoiseSource:
    limits = [(number_in(p / "scaling_max_freq"), number_in(p / "cpuinfo_max_freq")) for p in policies]
    known = [(limit, most) for limit, most in limits if limit and most and limit > 0 and most > 0]
    if not known:
        return unknown("frequency limit", _NO_CPUFREQ)
    limit, most = min(known, key=lambda pair: pair[0] / pair[1])
    if limit >= _LIMITED * most:
        return NoiseSource("frequency limit", f"none below {most / 1e6:.2f} GHz", disturbs=False)
    return NoiseSource("frequency limit", f"{limit / 1e6:.2f} of {most / 1e6:.2f} GHz", disturbs=True)


def _turbo(root: Path) -> NoiseSource:
    no_turbo = number_in(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = number_in(root / _CPUFREQ / "boost")
    if no_turbo is None and boost is None:
        return unknown("turbo", _NO_CPUFREQ)
    is_off = no_turbo == 1 or boost == 0
    return NoiseSource("turbo", "switched off" if is_off else "on", disturbs=is_off)


def _preference(policies: list[Path]) -> NoiseSource:
    preferences = _texts(policies, "energy_performance_preference")
    if not preferences:
        return unknown("energy preference", "the processor's driver has none")
    return NoiseSource("energy preference", _and(preferences), disturbs=bool(preferences & _SAVING_PREFERENCES))


def _profile(root: Path) -> NoiseSource:
    profiles = _texts([root / "sys/firmware/acpi"], "platform_profile")
    if not profiles:
        return unknown("power profile", "the firmware has none")
    return NoiseSource("power profile", _and(profiles), disturbs=bool(profiles & _SAVING_PROFILES))


def _linux_battery(root: Path) -> NoiseSource:
    folder = root / "sys/class/power_supply"
    # Of scope "Device" are those of mice and headsets.
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


def _texts(folders: list[Path], name: str) -> set[str]:
    return {_line(text) for folder in folders if (text := read_text(folder / name))}


def _line(text: str) -> str:
    """Return the beginning of a text in one line: a file of the system may hold anything."""
    return " ".join(text.split())[:60]


def _and(words: set[str]) -> str:
    return " and ".join(sorted(words))
