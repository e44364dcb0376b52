"""List the GPUs that the system shows, whether or not a library can use them."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from aesedge.system.commands import command_output, number_in, nvidia_smi, parse_int, read_text

Vendor = Literal["nvidia", "amd", "intel", "apple"]
_MIB = 1 << 20
_VENDORS: dict[str, tuple[Vendor, str]] = {
    "0x10de": ("nvidia", "NVIDIA"),
    "0x1002": ("amd", "AMD"),
    "0x8086": ("intel", "Intel"),
}
_DISPLAY_CLASS = "0x03"  # PCI: VGA and 3D controllers


class Gpu(msgspec.Struct, frozen=True):
    """A GPU."""

    name: str
    vendor: Vendor
    total_bytes: int | None = None
    """None where the system does not tell."""
    free_bytes: int | None = None
    shares_ram: bool = False
    """Whether its memory is the machine's own."""
    has_driver: bool = True
    """Whether the driver that computing needs answers."""


def gpus(root: Path = Path("/"), system: str = "") -> list[Gpu]:
    """Return the GPUs that nvidia-smi or the PCI bus (Linux) shows; every Apple chip has one.

    Args:
        root: where ``sys``, ``proc`` and ``dev`` lie.
        system: as :func:`platform.system` calls it; empty is this one.
    """
    system = system or platform.system()
    if system == "Darwin":
        return _apple()
    rows = nvidia_smi("name", "memory.total", "memory.free")
    found = [Gpu(name, "nvidia", _mib(total), _mib(free)) for name, total, free in rows]
    if system == "Linux":
        seen = _on_pci(root)
        found = found or [gpu for gpu in seen if gpu.vendor == "nvidia"] or _nvidia_files(root)
        found += [gpu for gpu in seen if gpu.vendor != "nvidia"]
    return found


def _mib(text: str) -> int | None:
    n = parse_int(text)  # "[N/A]" where the GPU shares the machine's memory
    return None if n is None else n * _MIB


def _on_pci(root: Path) -> list[Gpu]:
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor = _VENDORS.get(read_text(device / "vendor") or "")
        if vendor is None or not (read_text(device / "class") or "").startswith(_DISPLAY_CLASS):
            continue
        key, maker = vendor
        id_ = (read_text(device / "device") or "").removeprefix("0x")
        name = read_text(device / "product_name") or f"{maker} GPU (PCI device {id_ or 'unknown'})"
        total, used = number_in(device / "mem_info_vram_total"), number_in(device / "mem_info_vram_used")  # amdgpu's
        free = None if total is None or used is None else total - used
        has_driver = key != "nvidia" or (root / "proc/driver/nvidia/version").exists()
        found.append(Gpu(name, key, total, free, shares_ram=key == "intel" and total is None, has_driver=has_driver))
    return found


def _nvidia_files(root: Path) -> list[Gpu]:
    """Return NVIDIA GPUs of a container that has the device files, but neither nvidia-smi nor the bus."""
    found = []
    for folder in sorted((root / "proc/driver/nvidia/gpus").glob("*")):
        lines = (read_text(folder / "information") or "").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
        found.append(Gpu((models or ["NVIDIA GPU"])[0] or "NVIDIA GPU", "nvidia"))
    return found or [Gpu("NVIDIA GPU", "nvidia") for path in (root / "dev").glob("nvidia*") if path.name[6:].isdigit()]


def _apple() -> list[Gpu]:
    chip = command_output(["sysctl", "-n", "machdep.cpu.brand_string"]) or ""
    if not chip.startswith("Apple"):
        return []  # a Mac with an Intel processor: its GPUs are of no use to llama.cpp's Metal backend
    memory = psutil.virtual_memory()
    return [Gpu(f"{chip} GPU", "apple", int(memory.total), int(memory.available), shares_ram=True)]
