"""Which other builds of the libraries would be faster on this machine, each with its command; knows no bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import aesedge
from aesedge.doctor.libraries import RUNTIME_PACKAGES
from aesedge.llm.binding import build_again
from aesedge.system.commands import read_text
from aesedge.system.cpu_features import SPEED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.doctor.libraries import Libraries
    from aesedge.system.hardware import Hardware

_LEAST_VULKAN_BYTES = 4 << 30  # of a GPU's own memory; with less, nothing that is slow on a CPU fits
_HIDES_GPUS = "CUDA_VISIBLE_DEVICES"


class Advice(msgspec.Struct, frozen=True):
    """Something that would make this machine faster."""

    what: str
    """A short name that stays: ``llama.cpp``, ``tuning``."""
    why: str
    """In one line."""
    command: str
    """What to type; empty where it is nothing that one types."""


def rebuilding(machine: Hardware, built: Libraries) -> list[Advice]:
    """Compare what is there with what the libraries were built for."""
    return [*_gpu_advice(machine, built), *_runtime_advice(machine, built)]


def _gpu_advice(machine: Hardware, built: Libraries) -> Iterator[Advice]:
    vendors = {gpu.vendor: gpu for gpu in reversed(machine.gpus)}
    nvidia, amd = vendors.get("nvidia"), vendors.get("amd")
    if nvidia is not None and not nvidia.has_driver:
        why = f"{nvidia.name} is there, its driver is not: install it, until 'nvidia-smi' lists the GPU"
        yield Advice("GPU driver", why, "nvidia-smi")
    if not built.backends:  # llama.cpp does not load, which the examination says
        return
    if nvidia is not None and "CUDA" not in built.backends:
        yield Advice("llama.cpp", f"{nvidia.name} is there; this build computes on the CPU", _make("cuda"))
    elif nvidia is not None and not any(device.startswith("CUDA") for device in built.devices):
        hidden = os.environ.get(_HIDES_GPUS)
        why = "this build has CUDA and sees no GPU: " + (
            "the driver is missing or too old for it" if hidden is None else f"{_HIDES_GPUS} is {hidden!r}"
        )
        yield Advice("llama.cpp", why, "nvidia-smi" if hidden is None else f"unset {_HIDES_GPUS}")
    elif "apple" in vendors and not {"MTL", "Metal"} & set(built.backends):
        yield Advice("llama.cpp", f"{vendors['apple'].name} is there; this build has no Metal", _make("metal"))
    elif amd is not None and (amd.total_bytes or 0) >= _LEAST_VULKAN_BYTES and built.backends == ["CPU"]:
        why = f"{amd.name} is there; llama.cpp can use it through Vulkan, which nobody has measured with aesedge"
        yield Advice("llama.cpp", why, build_again("-DGGML_VULKAN=on"))
    else:
        yield from _native_advice(machine, built)


def _native_advice(machine: Hardware, built: Libraries) -> Iterator[Advice]:
    """Find instructions that the processor has and the CPU backend was not compiled for, as in ready-made wheels."""
    missing = [word for word in SPEED if word in machine.instructions and word not in built.cpu_features]
    if missing and built.cpu_features:
        why = f"built for machines in general, without this processor's {', '.join(missing)}"
        yield Advice("llama.cpp", why, build_again("-DGGML_NATIVE=on"))


def _runtime_advice(machine: Hardware, built: Libraries) -> Iterator[Advice]:
    has_cuda_gpu = any(gpu.vendor == "nvidia" and gpu.has_driver for gpu in machine.gpus)
    if len(built.onnxruntime_packages) > 1:
        why = f"{' and '.join(built.onnxruntime_packages)} are installed, and overwrite each other's files"
        yield Advice("ONNX Runtime", why, _install_runtime("cuda" if has_cuda_gpu else "cpu"))
    elif has_cuda_gpu and built.onnxruntime and not built.has_cuda_vision:
        yield Advice("ONNX Runtime", "a CUDA GPU is there; this build has no CUDA", _install_runtime("cuda"))


def _install_runtime(extra: str) -> str:
    clone = _clone()
    what = f'-e "{clone}[{extra}]"' if clone else f'"aesedge[{extra}]"'
    return f"pip uninstall -y {' '.join(RUNTIME_PACKAGES)} && pip install {what}"


def _make(backend: str) -> str:
    """Return the command that builds llama.cpp for a backend: the clone's own, where it has one."""
    clone, target = _clone(), f"install-{backend}"
    if clone and f"\n{target}:" in (read_text(clone / "Makefile") or ""):
        return f"make -C {quoted(str(clone))} {target}"
    return build_again(f"-DGGML_{backend.upper()}=on")


def quoted(text: str) -> str:
    """Return a word for a shell; in quotes where it has spaces, which every system's shell understands."""
    return f'"{text}"' if " " in text else text


def _clone() -> Path | None:
    """Return the clone that this package runs from, or None where it was installed."""
    folder = Path(aesedge.__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() and (folder / "Makefile").is_file() else None
