"""Describe this machine: processor, instruction sets, memory, GPUs, disks."""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

import msgspec
import psutil

from aesedge.system import machine
from aesedge.system.commands import command_output, read_text
from aesedge.system.cpu_features import cpu_flags, instructions
from aesedge.system.gpus import Gpu, gpus
from aesedge.system.paths import cache_folder, data_folder, existing_folder


class Hardware(msgspec.Struct, frozen=True):
    """A machine, as it is now."""

    system: str
    """Name and release: ``Linux 6.1.0``."""
    architecture: str
    cpu: str
    n_physical: int
    """Cores; as many as logical ones where the system does not tell."""
    n_logical: int
    n_usable: int
    """Logical cores that this process may use."""
    instructions: list[str]
    """In ggml's words; empty where the system does not tell."""
    ram_bytes: int
    """Of the machine, or of the container."""
    ram_free_bytes: int
    """Available without swapping."""
    gpus: list[Gpu]
    is_virtual: bool | None
    """Whether it is a virtual machine; None where the system does not tell."""


class Disk(msgspec.Struct, frozen=True):
    """A folder that aesedge writes to unasked, and the room there; None where the system does not tell."""

    what: str
    folder: str
    free_bytes: int | None
    total_bytes: int | None


def hardware(root: Path = Path("/"), system: str = "") -> Hardware:
    """Describe this machine; takes up to a second where nvidia-smi must wake a GPU.

    Args:
        root: where ``proc`` and ``sys`` lie.
        system: as :func:`platform.system` names it; empty is this one.
    """
    system = system or platform.system()
    n_logical = psutil.cpu_count() or machine.n_cores()
    flags = cpu_flags(root)
    return Hardware(
        system=f"{system} {platform.release()}",
        architecture=platform.machine(),
        cpu=_processor(root, system),
        n_physical=psutil.cpu_count(logical=False) or n_logical,
        n_logical=n_logical,
        n_usable=machine.n_cores(),
        instructions=instructions(root, system),
        ram_bytes=machine.total_bytes(),
        ram_free_bytes=machine.available_bytes(),
        gpus=gpus(root, system),
        is_virtual="hypervisor" in flags if {"fpu", "hypervisor"} & flags else None,  # Arm has no such flag
    )


def _processor(root: Path, system: str) -> str:
    name = machine.cpu_name()
    if system == "Darwin":
        return command_output(["sysctl", "-n", "machdep.cpu.brand_string"]) or name
    if system == "Linux" and name == platform.machine():  # Arm's /proc/cpuinfo has no model name; the board has one
        return read_text(root / "sys/firmware/devicetree/base/model") or name
    return name


def disks() -> list[Disk]:
    """Return the folders for bundles, caches and temporary files."""
    folders = {"bundles": data_folder(), "cache": cache_folder(), "temporary": Path(tempfile.gettempdir())}
    found = []
    for what, folder in folders.items():
        try:
            usage = shutil.disk_usage(existing_folder(folder))
        except OSError:
            usage = None
        found.append(Disk(what, str(folder), usage and usage.free, usage and usage.total))
    return found
