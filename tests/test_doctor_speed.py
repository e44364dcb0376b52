"""What a machine has, what would be faster and what disturbs: real code on trees of files that say what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from aesedge.bundle import Bundle, open_bundle
from aesedge.cli import main
from aesedge.doctor import Disturbance, Hardware, Libraries, advice, disturbances, hardware, libraries
from aesedge.doctor import load as load_room
from aesedge.doctor.gpus import Gpu, gpus
from aesedge.doctor.hardware import disks
from aesedge.doctor.instructions import instructions
from aesedge.inquiry import number_in, said_by, text_in
from aesedge.machine import control_groups
from aesedge.manifest import TokenPoint
from aesedge.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="lays out files of Linux, and scripts for a shell")

CPU = "sys/devices/system/cpu"
POLICY = f"{CPU}/cpufreq/policy0"
GARBAGE = ["", "\n", "not a number", "-1", "9" * 5000, "\x00\xff\xfe", "max max max", "0x", "1 2 3 4 5 6 7 8 9", "²"]


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return root


def command(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def by_name(found: list[Disturbance]) -> dict[str, Disturbance]:
    assert len({sign.what for sign in found}) == len(found)
    return {sign.what: sign for sign in found}


def look_at(root: Path, files: dict[str, str], system: str = "Linux") -> dict[str, Disturbance]:
    return by_name(disturbances(lay_out(root, files), system))


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files do not change between two looks, so there is nothing to wait for; and no GPU of the machine that tests."""
    monkeypatch.setattr("aesedge.doctor.disturbance._LOOK_S", 0.0)
    command(tmp_path / "commands", "nvidia-smi", "exit 9", monkeypatch)


# --- asking ---


@pytest.mark.parametrize("text", GARBAGE)
def test_a_file_that_holds_anything_is_a_number_or_none(tmp_path: Path, text: str) -> None:
    path = lay_out(tmp_path, {"file": text}) / "file"
    assert number_in(path) == (-1 if text == "-1" else None)
    assert text_in(path) is not None
    assert text_in(tmp_path) is text_in(tmp_path / "missing") is None


def test_a_command_that_fails_or_hangs_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "says", "echo ' something '", monkeypatch)
    command(tmp_path, "fails", "echo something; exit 3", monkeypatch)
    command(tmp_path, "hangs", "exec sleep 30", monkeypatch)
    began = time.monotonic()
    assert said_by(["says"]) == "something"
    assert said_by(["fails"]) is said_by(["no-such-command"]) is said_by(["hangs"], timeout_s=0.2) is None
    assert time.monotonic() - began < 5


# --- what disturbs ---


def test_a_machine_that_tells_nothing_disturbs_nothing(tmp_path: Path) -> None:
    found = look_at(tmp_path, {})
    assert not any(sign.disturbs for sign in found.values())
    silent = {"load", "stolen time", "swapping", "governor", "frequency limit", "turbo", "energy preference"}
    assert {sign.what for sign in found.values() if not sign.known} >= silent
    assert all(sign.found.startswith("unknown: ") for sign in found.values() if not sign.known)


@pytest.mark.parametrize(
    ("files", "what", "disturbs", "words"),
    [
        ({f"{POLICY}/scaling_governor": "performance\n"}, "governor", False, "performance"),
        ({f"{POLICY}/scaling_governor": "powersave\n"}, "governor", True, "powersave"),
        (
            {f"{POLICY}/scaling_governor": "powersave", f"{POLICY}/scaling_driver": "intel_pstate"},
            "governor",
            False,
            "powersave, of intel_pstate",
        ),
        (
            {f"{POLICY}/scaling_governor": "performance", f"{CPU}/cpufreq/policy1/scaling_governor": "powersave"},
            "governor",
            True,
            "performance and powersave",
        ),
        (
            {f"{POLICY}/scaling_max_freq": "2000000", f"{POLICY}/cpuinfo_max_freq": "4200000"},
            "frequency limit",
            True,
            "2.00 of 4.20 GHz",
        ),
        (
            {f"{POLICY}/scaling_max_freq": "4200000", f"{POLICY}/cpuinfo_max_freq": "4200000"},
            "frequency limit",
            False,
            "none below 4.20 GHz",
        ),
        ({f"{CPU}/intel_pstate/no_turbo": "1"}, "turbo", True, "off"),
        ({f"{CPU}/cpufreq/boost": "0"}, "turbo", True, "off"),
        ({f"{CPU}/cpufreq/boost": "1"}, "turbo", False, "on"),
        ({f"{POLICY}/energy_performance_preference": "balance_power"}, "energy preference", True, "balance_power"),
        ({f"{POLICY}/energy_performance_preference": "performance"}, "energy preference", False, "performance"),
        ({"sys/firmware/acpi/platform_profile": "low-power\n"}, "power profile", True, "low-power"),
        ({"sys/firmware/acpi/platform_profile": "balanced\n"}, "power profile", False, "balanced"),
        (
            {
                "sys/class/power_supply/BAT0/type": "Battery",
                "sys/class/power_supply/BAT0/status": "Discharging",
                "sys/class/power_supply/BAT0/capacity": "61",
                "sys/class/power_supply/AC/type": "Mains",
                "sys/class/power_supply/AC/online": "0",
            },
            "battery",
            True,
            "runs on it, 61 % charged",
        ),
        (
            {
                "sys/class/power_supply/BAT0/type": "Battery",
                "sys/class/power_supply/BAT0/status": "Discharging",  # while a weak supply is plugged in
                "sys/class/power_supply/AC/type": "Mains",
                "sys/class/power_supply/AC/online": "1",
            },
            "battery",
            False,
            "plugged in",
        ),
        (
            {
                "sys/class/power_supply/mouse/type": "Battery",
                "sys/class/power_supply/mouse/scope": "Device",
                "sys/class/power_supply/mouse/status": "Discharging",
            },
            "battery",
            False,
            "none",
        ),
        (
            {
                "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
                "sys/class/thermal/thermal_zone0/temp": "97000",
                "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
                "sys/class/thermal/thermal_zone0/trip_point_0_temp": "100000",
                "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive",
                "sys/class/thermal/thermal_zone0/trip_point_1_temp": "-274000",  # not set
            },
            "temperature",
            True,
            "97 °C (x86_pkg_temp), slowed down at 100 °C",
        ),
        (
            {
                "sys/class/thermal/thermal_zone0/temp": "60000",
                "sys/class/thermal/thermal_zone0/trip_point_0_type": "active",  # a fan
                "sys/class/thermal/thermal_zone0/trip_point_0_temp": "50000",
            },
            "temperature",
            False,
            "60 °C (sensor); its limit is not told",
        ),
        (
            {
                "sys/class/hwmon/hwmon0/name": "coretemp",
                "sys/class/hwmon/hwmon0/temp1_input": "55000",
                "sys/class/hwmon/hwmon0/temp1_max": "80000",
                "sys/class/hwmon/hwmon0/temp1_crit": "100000",
                "sys/class/hwmon/hwmon1/name": "nvme",
                "sys/class/hwmon/hwmon1/temp1_input": "99000",
            },
            "temperature",
            False,
            "55 °C (coretemp), slowed down at 80 °C",
        ),
        (
            {
                f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3",
                f"{CPU}/cpu1/thermal_throttle/package_throttle_count": "4",
            },
            "throttling",
            False,
            "none just now, 7 since the start",
        ),
        (
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"},
            "throttling",
            True,
            "too low a voltage and heat",
        ),
        ({"sys/devices/platform/soc/soc:firmware/get_throttled": "0x50000"}, "throttling", False, "none now"),
        (
            {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "50000 100000"},
            "quota",
            True,
            "0.5 of",
        ),
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "max 100000"}, "quota", False, "none"),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "300000",
            },
            "quota",
            True,
            "0.5 of",
        ),
        (
            {"proc/vmstat": "pswpin 5\npswpout 6\n", "proc/pressure/memory": "some avg10=4.25 avg60=0.00 total=1\n"},
            "swapping",
            True,
            "waited for memory 4 %",
        ),
    ],
)
def test_linux(tmp_path: Path, files: dict[str, str], what: str, disturbs: bool, words: str) -> None:
    found = look_at(tmp_path, files)[what]
    assert words in found.found
    assert (found.disturbs, found.known) == (disturbs, True)


LINUX_FILES = [
    *(
        f"{POLICY}/{name}"
        for name in (
            "scaling_governor",
            "scaling_driver",
            "scaling_max_freq",
            "cpuinfo_max_freq",
            "energy_performance_preference",
        )
    ),
    f"{CPU}/intel_pstate/no_turbo",
    f"{CPU}/cpufreq/boost",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count",
    "sys/firmware/acpi/platform_profile",
    "sys/class/power_supply/BAT0/type",
    "sys/class/power_supply/BAT0/status",
    "sys/class/power_supply/BAT0/capacity",
    "sys/class/power_supply/AC/online",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_type",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "sys/class/hwmon/hwmon0/name",
    "sys/class/hwmon/hwmon0/temp1_input",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/cpu.stat",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/bus/pci/devices/0000:01:00.0/vendor",
    "sys/bus/pci/devices/0000:01:00.0/class",
    "sys/bus/pci/devices/0000:01:00.0/mem_info_vram_total",
    "proc/stat",
    "proc/vmstat",
    "proc/cpuinfo",
    "proc/self/cgroup",
    "proc/pressure/memory",
    "proc/driver/nvidia/gpus/0/information",
]


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


def change(root: Path, first: dict[str, str], second: dict[str, str]) -> dict[str, Disturbance]:
    """Look twice, with other files the second time."""
    before = load_room.look(lay_out(root, first))
    after = load_room.look(lay_out(root, second))._replace(at=before.at + 1.0, own_s=before.own_s + 0.5)
    return by_name(load_room.between(before, after, root))


def test_load_is_what_other_programs_take(tmp_path: Path) -> None:
    idle = {"proc/stat": "cpu  1000 0 1000 5000 0 0 0 0 0 0\ncpu0 1 2 3\n"}
    own = {"proc/stat": "cpu  1050 0 1000 5150 0 0 0 0 0 0\n"}  # half a second, which is ours
    other = {"proc/stat": "cpu  1150 0 1050 5150 0 0 0 0 0 0\n"}
    assert not change(tmp_path, idle, own)["load"].disturbs
    found = change(tmp_path, idle, other)["load"]
    assert found.disturbs
    assert found.found.startswith("1.5 of ")


def test_stolen_time_is_the_hosts(tmp_path: Path) -> None:
    before = {"proc/stat": "cpu  1000 0 1000 8000 0 0 0 0 0 0\n"}
    after = {"proc/stat": "cpu  1050 0 1000 8130 0 0 0 20 0 0\n"}
    found = change(tmp_path, before, after)["stolen time"]
    assert found.disturbs
    assert "10.0% of the cores' time just now" in found.found
    assert change(tmp_path, before, before)["stolen time"].known is False


def test_a_quota_that_pauses_is_found(tmp_path: Path) -> None:
    group = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99999900000 100000"}
    before = group | {"sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 5\n"}
    after = group | {"sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 8\n"}
    found = change(tmp_path, before, after)["quota"]
    assert found.disturbs
    assert "paused 3 times" in found.found
    assert not change(tmp_path, before, before)["quota"].disturbs


def test_swapping_now_disturbs_and_earlier_does_not(tmp_path: Path) -> None:
    before, after = {"proc/vmstat": "pswpin 100\npswpout 900\n"}, {"proc/vmstat": "pswpin 100\npswpout 1900\n"}
    found = change(tmp_path, before, after)["swapping"]
    assert found.disturbs
    assert found.found == "4.1 MB/s"
    assert not change(tmp_path, before, before)["swapping"].disturbs


def test_slowdowns_that_go_on_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{CPU}/cpu0/thermal_throttle/core_throttle_count"
    lay_out(tmp_path, {path: "5"})
    monkeypatch.setattr(time, "sleep", lambda _s: lay_out(tmp_path, {path: "9"}))
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
    monkeypatch.setattr("aesedge.doctor.disturbance._LOOK_S", 0.5)
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        found = by_name(disturbances())["load"]
        assert found.disturbs
        assert "most by " in found.found
    finally:
        process.kill()
        process.wait()


# --- what there is ---


def test_instructions_in_ggmls_words(tmp_path: Path) -> None:
    flags = "fpu pni avx avx2 fma f16c avx512f avx512cd avx512vl avx512dq avx512_vnni"
    lay_out(tmp_path, {"proc/cpuinfo": f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t: nothing\n"})
    assert instructions(tmp_path, "Linux") == ["SSE3", "AVX", "AVX2", "F16C", "FMA", "AVX512_VNNI"]  # no avx512bw
    lay_out(tmp_path, {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp asimdhp i8mm\n"})
    assert instructions(tmp_path, "Linux") == ["NEON", "ARM_FMA", "FP16_VA", "DOTPROD", "MATMUL_INT8"]


def test_instructions_of_a_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["neon: 1", "arm.FEAT_DotProd: 1", "arm.FEAT_I8MM: 0", "avx2_0: 0"]
    command(tmp_path, "sysctl", "\n".join(f"echo 'hw.optional.{key}'" for key in keys), monkeypatch)
    assert instructions(tmp_path, "Darwin") == ["NEON", "ARM_FMA", "DOTPROD"]


def test_gpus_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["NVIDIA H100 80GB HBM3, 81559, 81000", "NVIDIA GB10, with a comma, [N/A], [N/A]"]
    command(tmp_path / "smi", "nvidia-smi", "\n".join(f"echo '{line}'" for line in lines), monkeypatch)
    one, two = gpus(tmp_path, "Linux")
    assert (one.name, one.total_bytes, one.free_bytes) == ("NVIDIA H100 80GB HBM3", 81559 << 20, 81000 << 20)
    assert (two.name, two.total_bytes) == ("NVIDIA GB10, with a comma", None)


def test_gpus_on_the_bus(tmp_path: Path) -> None:
    bus = "sys/bus/pci/devices"
    lay_out(
        tmp_path,
        {
            f"{bus}/0000:01:00.0/vendor": "0x10de",
            f"{bus}/0000:01:00.0/class": "0x030200",
            f"{bus}/0000:01:00.0/device": "0x2330",
            f"{bus}/0000:02:00.0/vendor": "0x1002",
            f"{bus}/0000:02:00.0/class": "0x030000",
            f"{bus}/0000:02:00.0/mem_info_vram_total": "17163091968",
            f"{bus}/0000:02:00.0/mem_info_vram_used": "163091968",
            f"{bus}/0000:03:00.0/vendor": "0x10de",
            f"{bus}/0000:03:00.0/class": "0x040300",  # its sound
        },
    )
    nvidia, amd = gpus(tmp_path, "Linux")
    assert (nvidia.vendor, nvidia.has_driver) == ("nvidia", False)
    assert "2330" in nvidia.name
    assert (amd.vendor, amd.total_bytes, amd.free_bytes) == ("amd", 17163091968, 17000000000)


def test_gpus_of_a_container(tmp_path: Path) -> None:
    lay_out(tmp_path, {"dev/nvidia0": "", "dev/nvidiactl": ""})
    assert gpus(tmp_path, "Linux") == [Gpu("NVIDIA GPU", "nvidia")]
    lay_out(tmp_path, {"proc/driver/nvidia/gpus/0000:01/information": "Model: \t Tesla T4\nIRQ: 5\n"})
    assert gpus(tmp_path, "Linux") == [Gpu("Tesla T4", "nvidia")]


def test_this_machine() -> None:
    machine = hardware()
    assert 1 <= machine.n_usable <= machine.n_logical
    assert 1 <= machine.n_physical <= machine.n_logical
    assert 0 < machine.ram_free_bytes < machine.ram_bytes
    assert machine.cpu
    assert [disk.what for disk in disks()] == ["bundles", "cache"]
    assert all((disk.free_bytes or 0) <= (disk.total_bytes or 0) for disk in disks())


def test_these_libraries() -> None:
    built = libraries()
    assert "CPU" in built.backends
    assert built.problems == []
    assert built.devices
    assert built.ggml.count(".") == 2
    assert "CPUExecutionProvider" in built.providers
    assert built.onnxruntime
    assert {"AVX2", "NEON"} & set(built.cpu_features) or platform.machine() not in {"x86_64", "aarch64", "arm64"}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    built = libraries()
    assert built.backends
    assert (built.onnxruntime, built.providers) == ("", [])
    assert "aesedge[cpu]" in built.problems[0]


def test_control_groups_that_are_nonsense(tmp_path: Path) -> None:
    assert control_groups("cpu", lay_out(tmp_path, {"proc/self/cgroup": "nonsense\n\n:\n7:cpuset:/\n"})) == []


# --- what would be faster ---


MACHINE = Hardware(
    "Linux 6", "x86_64", "a processor", 4, 8, 8, ["AVX", "AVX2"], 16 << 30, 12 << 30, [], is_virtual=False
)
BUILT = Libraries(
    llama_cpp_python="0.3.36",
    backends=["CPU"],
    devices=["CPU: a processor"],
    cpu_features=["AVX", "AVX2"],
    onnxruntime="1.32.0",
    onnxruntime_packages=["onnxruntime"],
    providers=["CPUExecutionProvider"],
)
H100 = Gpu("NVIDIA H100", "nvidia", 80 << 30, 79 << 30)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)


def advised(
    bundle: Bundle,
    machine: Hardware = MACHINE,
    built: Libraries = BUILT,
    disturbed: list[Disturbance] | None = None,
    **options: Any,
) -> dict[str, tuple[str, str]]:
    found = advice(bundle, Options(threads=1, device="cpu", **options), machine, built, disturbed or [])
    return {one.what: (one.why, one.command) for one in found}


def with_(struct: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(struct, **changes)


def test_a_cuda_gpu_and_libraries_without_cuda(bundle: Bundle) -> None:
    found = advised(bundle, with_(MACHINE, gpus=[H100], instructions=["AVX", "AVX2", "AVX512"]))
    why, how = found["llama.cpp"]
    assert why.startswith("NVIDIA H100 is there")
    assert how.endswith("install-cuda") or "-DGGML_CUDA=on" in how
    why, how = found["ONNX Runtime"]
    assert "no CUDA" in why
    assert how.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install ")
    assert "[cuda]" in how


def test_a_cuda_gpu_that_is_used_needs_nothing(bundle: Bundle) -> None:
    built = with_(
        BUILT,
        backends=["CUDA", "CPU"],
        devices=["CUDA0: NVIDIA H100", "CPU: a processor"],
        providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    assert not {"llama.cpp", "ONNX Runtime"} & advised(bundle, with_(MACHINE, gpus=[H100]), built).keys()


def test_a_cuda_gpu_that_is_hidden(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    built = with_(BUILT, backends=["CUDA", "CPU"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert advised(bundle, with_(MACHINE, gpus=[H100]), built)["llama.cpp"][1] == "unset CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "driver" in advised(bundle, with_(MACHINE, gpus=[H100]), built)["llama.cpp"][0]


def test_a_gpu_without_its_driver(bundle: Bundle) -> None:
    found = advised(bundle, with_(MACHINE, gpus=[with_(H100, has_driver=False)]))
    assert "nvidia-smi" in found["GPU driver"][1]
    assert "ONNX Runtime" not in found


def test_other_gpus(bundle: Bundle) -> None:
    apple, amd = Gpu("Apple M4 GPU", "apple", 16 << 30, shares_ram=True), Gpu("AMD GPU", "amd", 16 << 30)
    assert "metal" in advised(bundle, with_(MACHINE, gpus=[apple]))["llama.cpp"][1].lower()
    metal = with_(BUILT, backends=["MTL", "CPU"])
    assert "llama.cpp" not in advised(bundle, with_(MACHINE, gpus=[apple]), metal)
    assert "GGML_VULKAN" in advised(bundle, with_(MACHINE, gpus=[amd]))["llama.cpp"][1]
    small = with_(amd, total_bytes=512 << 20)
    assert "llama.cpp" not in advised(bundle, with_(MACHINE, gpus=[small, Gpu("Intel GPU", "intel")]))


def test_a_wheel_for_machines_in_general(bundle: Bundle) -> None:
    machine = with_(MACHINE, instructions=["SSE3", "AVX", "AVX2", "AVX512", "AVX512_VNNI", "AVX512_BF16"])
    why, how = advised(bundle, machine)["llama.cpp"]
    assert "AVX512, AVX512_VNNI" in why
    assert "BF16" not in why  # changes no speed of quantized products
    assert "GGML_NATIVE=on" in how
    assert "--no-cache-dir" in how  # pip's cache would bring the same wheel back
    assert "llama.cpp" not in advised(bundle, machine, with_(BUILT, cpu_features=machine.instructions))
    assert "llama.cpp" not in advised(bundle, machine, with_(BUILT, cpu_features=[]))  # it does not tell


def test_both_packages_of_onnx_runtime(bundle: Bundle) -> None:
    both = with_(BUILT, onnxruntime_packages=["onnxruntime", "onnxruntime-gpu"])
    assert "[cpu]" in advised(bundle, built=both)["ONNX Runtime"][1]
    assert "[cuda]" in advised(bundle, with_(MACHINE, gpus=[H100]), both)["ONNX Runtime"][1]


def test_image_tokens(bundle: Bundle) -> None:
    assert "image tokens" not in advised(bundle)  # it has one number of them
    tokens = with_(bundle.manifest.image_tokens, min=1, method="cells")
    able = dataclasses.replace(bundle, manifest=with_(bundle.manifest, image_tokens=tokens))
    assert "--quality PHOTOS" in advised(able)["image tokens"][1]

    def measured(drift: float) -> Bundle:
        point = TokenPoint(n=tokens.max - 1, score_drift=drift, worst_score_drift=drift, nll_change=0.0, n_photos=9)
        return dataclasses.replace(bundle, manifest=with_(bundle.manifest, image_tokens=with_(tokens, curve=[point])))

    why, how = advised(measured(0.125))["image tokens"]
    assert "0.12 of 10 points" in why
    assert "--image-tokens auto" in how
    assert "image tokens" not in advised(measured(9.0))
    assert "image tokens" not in advised(measured(0.125), image_tokens=tokens.max)


def test_tuning(bundle: Bundle) -> None:
    assert f"aesedge tune {bundle.name} --device cpu" in advised(bundle)["tuning"][1]
    assert "tuning" not in advised(bundle, tuned=False)


def test_vision_in_int8(bundle: Bundle) -> None:
    assert "vision in int8" not in advised(bundle)  # small: milliseconds in any precision
    manifest = bundle.manifest
    large = [with_(f, n_bytes=1 << 30) if f.role == "vision" else f for f in manifest.files if f.type != "int8"]

    def made_by(source: dict[str, str]) -> Bundle:
        changed = with_(manifest, files=large, source=with_(manifest.source, **source))
        return dataclasses.replace(bundle, manifest=changed)

    exported = made_by({"checkpoint": "my/checkpoint", "layout": "hf-llava"})
    assert advised(exported)["vision in int8"][1] == "aesedge export my/checkpoint --vision fp32,int8"
    imported = made_by({"checkpoint": "a b.gguf + mmproj.gguf", "layout": "llama.cpp pair"})
    assert advised(imported)["vision in int8"][1] == 'aesedge import "a b.gguf" mmproj.gguf --vision fp32,int8'
    assert advised(made_by({"checkpoint": "random weights", "layout": ""}))["vision in int8"][1] == ""


def test_memory() -> None:
    pocket = open_bundle("pocket")
    assert "memory" not in advised(pocket, gguf="q4_k_m")
    why, how = advised(pocket, gguf="q4_k_m", memory="10MB")["memory"]
    assert why.startswith("q8_0, which is nearer to the original, needs ")
    assert (why.endswith("--memory allows 10 MB"), how) == (True, "")
    assert "memory" not in advised(pocket, gguf="q8_0", memory="10MB")  # there is no better one
    swaps = [Disturbance("swapping", "9.0 MB/s", disturbs=True)]
    assert advised(pocket, disturbed=swaps)["memory"][1] == "aesedge run --bundle pocket --gguf q4_k_m"


@pytest.mark.skipif(platform.system() != "Linux", reason="commands of Linux")
def test_power_saving(bundle: Bundle) -> None:
    saving = [
        Disturbance("energy preference", "power", disturbs=True),
        Disturbance("power profile", "low-power", disturbs=True),
        Disturbance("battery", "runs on it", disturbs=True),
        Disturbance("governor", "performance", disturbs=False),
    ]
    found = advice(bundle, Options(threads=1, device="cpu"), MACHINE, BUILT, saving)
    assert [one.command for one in found if one.what == "power saving"] == ["powerprofilesctl set performance", ""]


def test_a_plan_that_cannot_be_made_leaves_the_machines_advice(bundle: Bundle) -> None:
    machine = with_(MACHINE, instructions=["AVX512"])
    found = advice(bundle, Options(image_tokens=10**6), machine, BUILT)
    assert [one.what for one in found] == ["llama.cpp"]


# --- what people see ---


@pytest.fixture
def shown(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def show(*arguments: str, columns: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        code = main(["doctor", "--bundle", str(bundle_folder), *arguments])
        return code, *capsys.readouterr()

    return show


@pytest.mark.parametrize("columns", [60, 80, 110, 200])
def test_the_text_fits_the_terminal(shown: Callable[..., tuple[int, str, str]], columns: int) -> None:
    code, out, err = shown(columns=columns)
    assert (code, err) == (0, "")
    titles = ["is it fit", "this machine", "its libraries", "what would be faster", "what disturbs measurements"]
    lines = out.splitlines()
    assert [line for line in lines if line in titles] == titles
    paths = [line for line in lines if "/" in line]  # a word that is longer than the line is broken
    assert max(len(line) for line in lines if line not in paths) <= min(columns, 110)
    assert lines[-2].startswith("fit: ")
    assert "aesedge tune" in out


def test_a_command_can_be_copied(shown: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    from aesedge.cli.machine_report import advice_section
    from aesedge.doctor import Advice
    from aesedge.llm.binding import build_again

    monkeypatch.setenv("COLUMNS", "60")
    command = build_again("-DGGML_CUDA=on")
    text = advice_section([Advice("llama.cpp", "why", command)])
    assert max(map(len, text.splitlines())) <= 60
    typed = "\n".join(text.splitlines()[2:])
    assert " ".join(typed.replace("\\\n", " ").split()) == command
    assert "nothing that aesedge knows of" in advice_section([])


def test_the_json(shown: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = shown("--json")
    found = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert list(found) == ["bundle", "passed", "checks", "machine", "disks", "libraries", "faster", "disturbances"]
    assert msgspec.convert(found["machine"], Hardware).cpu == hardware().cpu
    assert msgspec.convert(found["libraries"], Libraries) == libraries()
    assert {"what", "why", "command"} == set(found["faster"][0])
    assert {"load", "quota"} <= {sign["what"] for sign in found["disturbances"]}


def test_onnx_runtime_that_is_missing_makes_a_machine_unfit(
    shown: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = shown()
    assert code == 1
    assert "vision: ONNX Runtime is not installed" in err
    assert "not installed" in out


def test_quiet_says_the_verdict_alone(shown: Callable[..., tuple[int, str, str]]) -> None:
    assert shown("--quiet") == (0, "fit: tiny on this machine\n", "")


def test_a_machine_that_is_unfit_still_hears_what_would_help(shown: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = shown("--memory", "1MB")
    assert code == 1
    assert "memory: bundle 'tiny'" in err
    assert "FAIL" in out
    assert "what would be faster" in out
    assert "NOT FIT" in out.splitlines()[-1]


def test_remarks_do_not_make_a_machine_unfit(
    shown: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "hot", "nvidia-smi", "echo '0x0000000000000040, 99, 95'", monkeypatch)
    code, out, _ = shown()
    assert code == 0
    assert "disturbs  slowed down by heat" in out
