"""What disturbs measurements: real code on trees of files that say what is wrong."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from laid_out import GARBAGE, command, lay_out

from aesedge.doctor import NoiseSource, disturbances
from aesedge.system import load as load_room
from aesedge.system.gpus import Gpu
from aesedge.system.hardware import hardware
from aesedge.system.thermal import temperature

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="lays out files of Linux, and scripts for a shell"),
    pytest.mark.usefixtures("short_looks"),
]
CPU = "sys/devices/system/cpu"
POLICY = f"{CPU}/cpufreq/policy0"


def by_name(found: list[NoiseSource]) -> dict[str, NoiseSource]:
    assert len({sign.what for sign in found}) == len(found)
    return {sign.what: sign for sign in found}


def look_at(root: Path, files: dict[str, str], system: str = "Linux") -> dict[str, NoiseSource]:
    return by_name(disturbances(lay_out(root, files), system))


def test_a_machine_that_tells_nothing_disturbs_nothing(tmp_path: Path) -> None:
    found = look_at(tmp_path, {})
    assert not any(sign.disturbs for sign in found.values())
    silent = {"load", "stolen time", "swapping", "governor", "frequency limit", "turbo", "energy preference"}
    assert {sign.what for sign in found.values() if not sign.known} >= silent
    assert all(sign.found.startswith("unknown: ") for sign in found.values() if not sign.known)


SUPPLY = "sys/class/power_supply"
PROFILE = "sys/firmware/acpi/platform_profile"
THERMAL = f"{CPU}/cpu0/thermal_throttle"
PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
BATTERY = {f"{SUPPLY}/BAT0/type": "Battery", f"{SUPPLY}/BAT0/status": "Discharging", f"{SUPPLY}/AC/type": "Mains"}
BOX = {"proc/self/cgroup": "0::/box\n"}
OLD_BOX = {"proc/self/cgroup": "4:cpu,cpuacct:/box\n"}
OLD = "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs"


def policy(**files: str) -> dict[str, str]:
    return {f"{POLICY}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("files", "what", "disturbs", "words"),
    [
        (policy(scaling_governor="performance\n"), "governor", False, "performance"),
        (policy(scaling_governor="powersave\n"), "governor", True, "powersave"),
        (policy(scaling_governor="powersave", scaling_driver="intel_pstate"), "governor", False, "of intel_pstate"),
        (
            {**policy(scaling_governor="performance"), f"{CPU}/cpufreq/policy1/scaling_governor": "powersave"},
            *("governor", True, "performance and powersave"),
        ),
        (policy(scaling_max_freq="2000000", cpuinfo_max_freq="4200000"), "frequency limit", True, "2.00 of 4.20 GHz"),
        (policy(scaling_max_freq="4200000", cpuinfo_max_freq="4200000"), "frequency limit", False, "below 4.20 GHz"),
        ({f"{CPU}/intel_pstate/no_turbo": "1"}, "turbo", True, "off"),
        ({f"{CPU}/cpufreq/boost": "0"}, "turbo", True, "off"),
        ({f"{CPU}/cpufreq/boost": "1"}, "turbo", False, "on"),
        (policy(energy_performance_preference="balance_power"), "energy preference", True, "balance_power"),
        (policy(energy_performance_preference="performance"), "energy preference", False, "performance"),
        ({PROFILE: "low-power\n"}, "power profile", True, "low-power"),
        ({PROFILE: "balanced\n"}, "power profile", False, "balanced"),
        (
            {**BATTERY, f"{SUPPLY}/BAT0/capacity": "61", f"{SUPPLY}/AC/online": "0"},
            *("battery", True, "runs on it, 61 % charged"),
        ),
        ({**BATTERY, f"{SUPPLY}/AC/online": "1"}, "battery", False, "plugged in"),  # a weak supply
        (
            {f"{SUPPLY}/mouse/{name}": text for name, text in (("type", "Battery"), ("scope", "Device"))},
            *("battery", False, "none"),
        ),
        (
            {
                f"{CPU}/cpu{i}/thermal_throttle/{p}_throttle_count": n
                for i, p, n in ((0, "core", "3"), (1, "package", "4"))
            },
            *("throttling", False, "none just now, 7 since the start"),
        ),
        ({PI: "50005\n"}, "throttling", True, "too low a voltage and heat"),
        ({PI: "0x50000"}, "throttling", False, "none now"),
        ({**BOX, "sys/fs/cgroup/box/cpu.max": "50000 100000"}, "quota", True, "0.5 of"),
        ({**BOX, "sys/fs/cgroup/box/cpu.max": "max 100000"}, "quota", False, "none"),
        ({**OLD_BOX, f"{OLD}_quota_us": "150000", f"{OLD}_period_us": "300000"}, "quota", True, "0.5 of"),
        ({"proc/pressure/memory": "some avg10=4.25 avg60=0.00\n"}, "swapping", True, "waited for memory 4 %"),
    ],
)
def test_linux(tmp_path: Path, files: dict[str, str], what: str, disturbs: bool, words: str) -> None:
    found = look_at(tmp_path, files)[what]
    assert words in found.found
    assert (found.disturbs, found.known) == (disturbs, True)


PCI = "sys/bus/pci/devices/0000:01:00.0"
POLICY_FILES = "scaling_governor scaling_driver scaling_max_freq cpuinfo_max_freq energy_performance_preference"
LINUX_FILES = [
    *policy(**dict.fromkeys(POLICY_FILES.split(), "")),
    f"{CPU}/intel_pstate/no_turbo", f"{CPU}/cpufreq/boost", f"{CPU}/cpu0/thermal_throttle/core_throttle_count",
    PROFILE, f"{SUPPLY}/BAT0/type", f"{SUPPLY}/BAT0/status", f"{SUPPLY}/BAT0/capacity", f"{SUPPLY}/AC/online", PI,
    "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", f"{PCI}/vendor",
    f"{PCI}/class", f"{PCI}/mem_info_vram_total", "proc/cpuinfo", "proc/self/cgroup", "proc/pressure/memory",
    "proc/driver/nvidia/gpus/0/information",
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_in_the_systems_files_is_never_an_error(tmp_path: Path, text: str) -> None:
    root = lay_out(tmp_path, dict.fromkeys(LINUX_FILES, text))
    found = disturbances(root, "Linux")
    assert all("\n" not in sign.found and len(sign.found) < 200 for sign in found)
    assert not by_name(found)["load"].disturbs
    machine = hardware(root, "Linux")
    assert machine.instructions == []
    assert machine.gpus in ([], [Gpu("NVIDIA GPU", "nvidia")])


def test_folders_in_place_of_files_are_never_an_error(tmp_path: Path) -> None:
    for name in LINUX_FILES:
        (tmp_path / name).mkdir(parents=True)
    assert not any(sign.disturbs for sign in disturbances(tmp_path, "Linux"))
    assert hardware(tmp_path, "Linux").instructions == []


def change(root: Path, first: dict[str, str], second: dict[str, str], *looks: Any) -> dict[str, NoiseSource]:
    """Look twice, with other files, or other counters, the second time."""
    before = load_room.look(lay_out(root, first))
    after = load_room.look(lay_out(root, second))._replace(at=before.at + 1.0, own_s=before.own_s + 0.5)
    if looks:
        before, after = before._replace(**looks[0]), after._replace(**looks[1])
    return by_name(load_room.between(before, after, root))


def times(busy: float, idle: float, stolen: float | None = 0.0) -> dict[str, load_room.Times]:
    return {"times": load_room.Times(busy, idle, stolen)}


def test_load_is_what_other_programs_take(tmp_path: Path) -> None:
    own = change(tmp_path, {}, {}, times(20.0, 50.0), times(20.5, 51.5))["load"]  # half a second, which is ours
    assert not own.disturbs
    found = change(tmp_path, {}, {}, times(20.0, 50.0), times(22.0, 51.5))["load"]
    assert found.disturbs
    assert found.found.startswith("1.5 of ")


def test_stolen_time_is_the_hosts(tmp_path: Path) -> None:
    found = change(tmp_path, {}, {}, times(20.0, 80.0), times(20.5, 81.3, 0.2))["stolen time"]
    assert found.disturbs
    assert "10.0% of the cores' time just now" in found.found
    assert change(tmp_path, {}, {}, times(20.0, 80.0), times(20.0, 80.0))["stolen time"].known is False
    assert change(tmp_path, {}, {}, times(20.0, 80.0, None), times(21.0, 80.0, None))["stolen time"].known is False


def test_counters_are_those_of_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = namedtuple("linux", "user nice system idle iowait irq softirq steal guest guest_nice")  # noqa: PYI024 (as psutil's)
    monkeypatch.setattr("psutil.cpu_times", lambda: linux(1, 2, 4, 8, 16, 32, 64, 128, 1, 2))
    assert load_room._times() == load_room.Times(1 + 2 + 4 + 32 + 64, 8 + 16, 128)
    monkeypatch.setattr("psutil.cpu_times", lambda: namedtuple("windows", "user system idle")(1, 2, 4))  # noqa: PYI024
    assert load_room._times() == load_room.Times(3, 4, None)

    def fails() -> None:
        raise OSError

    for name in ("cpu_times", "swap_memory"):
        monkeypatch.setattr(f"psutil.{name}", fails)
    assert load_room._times() is load_room._swapped() is None


def test_a_quota_that_pauses_is_found(tmp_path: Path) -> None:
    group = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99999900000 100000"}
    before = group | {"sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 5\n"}
    after = group | {"sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 8\n"}
    found = change(tmp_path, before, after)["quota"]
    assert found.disturbs
    assert "paused 3 times" in found.found
    assert not change(tmp_path, before, before)["quota"].disturbs


def test_swapping_now_disturbs_and_earlier_does_not(tmp_path: Path) -> None:
    before, after = {"swapped_bytes": 1000 << 12}, {"swapped_bytes": 2000 << 12}
    found = change(tmp_path, {}, {}, before, after)["swapping"]
    assert found.disturbs
    assert found.found == "4.1 MB/s"
    assert not change(tmp_path, {}, {}, before, before)["swapping"].disturbs


Sensor = namedtuple("Sensor", "current high critical")  # noqa: PYI024 (as psutil's)


@pytest.mark.parametrize(
    ("chips", "disturbs", "words"),
    [
        ({}, False, "unknown: no sensor"),
        ({"x86_pkg_temp": [Sensor(97.0, 100.0, -274.0)]}, True, "97 °C (x86_pkg_temp), slowed down at 100 °C"),
        ({"cpu-thermal": [Sensor(60.0, None, 0.0)]}, False, "60 °C (cpu-thermal); its limit is not told"),
        (
            {"coretemp": [Sensor(55.0, 80.0, 100.0), Sensor(40.0, 80.0, 100.0)], "nvme": [Sensor(99.0, 90.0, 95.0)]},
            False,
            "55 °C (coretemp), slowed down at 80 °C",
        ),
        ({"coretemp": [Sensor(0.0, 80.0, 100.0)], "acpitz": [Sensor(-274.0, None, None)]}, False, "unknown: no sensor"),
        ({"a fan\n": [Sensor(99.0, 90.0, 95.0)]}, False, "unknown: no sensor"),
    ],
)
def test_temperature(
    monkeypatch: pytest.MonkeyPatch, chips: dict[str, list[Sensor]], disturbs: bool, words: str
) -> None:
    monkeypatch.setattr("psutil.sensors_temperatures", lambda: chips, raising=False)
    found = temperature()
    assert found.found.startswith(words)
    assert (found.disturbs, found.known) == (disturbs, not words.startswith("unknown"))


def test_a_system_without_sensors_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("psutil.sensors_temperatures", raising=False)
    assert not temperature().known


def test_slowdowns_that_go_on_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{CPU}/cpu0/thermal_throttle/core_throttle_count"
    lay_out(tmp_path, {path: "5"})

    def sleep(seconds: float) -> None:
        if not seconds:  # between the two looks; subprocess sleeps too, while it waits for nvidia-smi
            lay_out(tmp_path, {path: "9"})

    monkeypatch.setattr(time, "sleep", sleep)
    found = by_name(disturbances(tmp_path, "Linux"))["throttling"]
    assert (found.disturbs, found.found) == (True, "4 slowdowns by heat just now, 9 since the start")


def test_gpus_that_are_slowed_down_or_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["0x0000000000000001, 0, 34", "0x0000000000000060, 99, 92", "0x0000000000000004, 80, 60", "[N/A], [N/A], 5"]
    command(tmp_path / "gpu", "nvidia-smi", "\n".join(f"echo '{line}'" for line in lines), monkeypatch)
    found = look_at(tmp_path, {})
    assert (found["gpu"].disturbs, found["gpu"].found) == (False, "0 % busy, 34 °C")
    assert found["gpu 1"].found == "slowed down by heat (driver) and heat (hardware), 92 °C"
    assert found["gpu 1"].disturbs
    assert (found["gpu 2"].disturbs, found["gpu 2"].found) == (True, "80 % busy, 60 °C, at its power limit")
    assert not found["gpu 3"].known


def test_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'case "$*" in "-g therm") echo " CPU_Speed_Limit 	= 71";; *) echo " lowpowermode         1";; esac'
    command(tmp_path, "pmset", script, monkeypatch)
    found = look_at(tmp_path, {}, "Darwin")
    assert (found["throttling"].found, found["throttling"].disturbs) == ("speed limit 71 %", True)
    assert (found["power profile"].found, found["power profile"].disturbs) == ("low power mode is on", True)


def test_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "GUID des Energieschemas: a1841308-3541-4fab-bc81-f71556f20b4a  (Energiesparmodus)"
    command(tmp_path, "powercfg", f"echo '{says}'", monkeypatch)
    found = look_at(tmp_path, {}, "Windows")["power profile"]
    assert (found.found, found.disturbs) == ("energiesparmodus", True)


@pytest.mark.parametrize("system", ["Darwin", "Windows", "Plan9"])
def test_systems_without_their_commands_disturb_nothing(tmp_path: Path, system: str) -> None:
    found = look_at(tmp_path, {}, system)
    assert not any(sign.disturbs for sign in found.values() if sign.what != "battery")


def test_this_machine_is_looked_at_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    began = time.monotonic()
    found = by_name(disturbances())
    assert time.monotonic() - began < 2.0  # 0.4 s alone on the machine
    assert {"load", "quota", "swapping"} <= found.keys()
    assert list(msgspec.to_builtins(found["load"])) == ["what", "found", "disturbs", "known"]


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_another_program_that_is_busy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge.system.measurement_noise._LOOK_S", 0.5)
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        found = by_name(disturbances())["load"]
        assert found.disturbs
        assert "most by " in found.found
    finally:
        process.kill()
        process.wait()
