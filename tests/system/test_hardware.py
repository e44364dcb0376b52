"""What a machine has: real code on trees of files that say what is there, or nonsense."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import TYPE_CHECKING

import pytest
from laid_out import GARBAGE, command, lay_out

from aesedge.doctor import libraries
from aesedge.system.commands import command_output, number_in, read_text
from aesedge.system.cpu_features import instructions
from aesedge.system.gpus import Gpu, gpus
from aesedge.system.hardware import disks, hardware
from aesedge.system.machine import control_groups

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="lays out files of Linux, and scripts for a shell"),
    pytest.mark.usefixtures("short_looks"),
]


@pytest.mark.parametrize("text", GARBAGE)
def test_a_file_that_holds_anything_is_a_number_or_none(tmp_path: Path, text: str) -> None:
    path = lay_out(tmp_path, {"file": text}) / "file"
    assert number_in(path) == (-1 if text == "-1" else None)
    assert read_text(path) is not None
    assert read_text(tmp_path) is read_text(tmp_path / "missing") is None


def test_a_command_that_fails_or_hangs_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "says", "echo ' something '", monkeypatch)
    command(tmp_path, "fails", "echo something; exit 3", monkeypatch)
    command(tmp_path, "hangs", "exec sleep 30", monkeypatch)
    began = time.monotonic()
    assert command_output(["says"]) == "something"
    assert (
        command_output(["fails"])
        is command_output(["no-such-command"])
        is command_output(["hangs"], timeout_s=0.2)
        is None
    )
    assert time.monotonic() - began < 5


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
    assert [disk.what for disk in disks()] == ["bundles", "cache", "temporary"]
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
