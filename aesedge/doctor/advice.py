"""What would make a bundle faster on this machine, each with the command to type."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import aesedge
from aesedge.config.memory import estimate, limits_now
from aesedge.config.planning import make_plan
from aesedge.config.profile import load_profile
from aesedge.doctor.libraries import RUNTIME_PACKAGES
from aesedge.errors import AesedgeError
from aesedge.llm.binding import build_again
from aesedge.system.byte_sizes import size_text
from aesedge.system.commands import read_text
from aesedge.system.cpu_features import SPEED
from aesedge.system.power_saving import remedy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Source
    from aesedge.config.options import Options
    from aesedge.config.plan import Plan
    from aesedge.doctor.libraries import Libraries
    from aesedge.system.hardware import Hardware
    from aesedge.system.noise_source import NoiseSource

_LARGE_GRAPH_BYTES = 100_000_000
"""Smaller vision graphs take milliseconds in any precision."""
_LEAST_VULKAN_BYTES = 4 << 30  # of a GPU's own memory; with less, nothing that is slow on a CPU fits
_HIDES_GPUS = "CUDA_VISIBLE_DEVICES"


class Advice(msgspec.Struct, frozen=True):
    """Something that would make this machine faster."""

    what: str
    """A short name that stays: ``llama.cpp``, ``tuning``."""
    why: str
    """In one line."""
    command: str
    """What to type; empty where there is no command for it."""


def advice(
    bundle: Bundle, options: Options, machine: Hardware, built: Libraries, disturbed: Sequence[NoiseSource] = ()
) -> list[Advice]:
    """Return what would be faster, what gains most first: other builds, then the bundle, tuning, power, memory.

    Args:
        bundle: which is to be run.
        options: how.
        machine: as :func:`aesedge.system.hardware.hardware` describes it.
        built: as :func:`aesedge.doctor.libraries.libraries` describes it.
        disturbed: what :func:`aesedge.system.measurement_noise.disturbances` found.
    """
    found = [*_gpu_advice(machine, built), *_runtime_advice(machine, built)]
    try:
        plan = make_plan(options, bundle)
    except AesedgeError:  # the examination says why
        return found
    signs = {sign.what: sign.found for sign in disturbed if sign.disturbs}
    return [
        *found,
        *_vision(bundle, plan, built),
        *_image_tokens(bundle, options),
        *_tuning(bundle, options, plan),
        *_power_saving(signs),
        *_memory(bundle, options, plan, swaps="swapping" in signs),
    ]


def _gpu_advice(machine: Hardware, built: Libraries) -> Iterator[Advice]:
    vendors = {gpu.vendor: gpu for gpu in reversed(machine.gpus)}
    nvidia, amd = vendors.get("nvidia"), vendors.get("amd")
    if nvidia is not None and not nvidia.has_driver:
        why = f"{nvidia.name} is there, its driver is not: install it, until 'nvidia-smi' lists the GPU"
        yield Advice("GPU driver", why, "nvidia-smi")
    if not built.backends:  # llama.cpp does not load, which the examination says
        return
    missing = [word for word in SPEED if word in machine.instructions and word not in built.cpu_features]
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
        why = f"{amd.name} is there; llama.cpp can use it through Vulkan, which was not measured with aesedge"
        yield Advice("llama.cpp", why, build_again("-DGGML_VULKAN=on"))
    elif missing and built.cpu_features:  # as in ready-made wheels
        why = f"built for machines in general, without this processor's {', '.join(missing)}"
        yield Advice("llama.cpp", why, build_again("-DGGML_NATIVE=on"))
    if built.kernels_missing and built.backends == ["CPU"]:
        why = f"aesedge's own are left out: {built.kernels_missing}; they make prompts and batches faster"
        yield Advice("matrix kernels", why, "")


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
        return f"make -C {_quoted(str(clone))} {target}"
    return build_again(f"-DGGML_{backend.upper()}=on")


def _quoted(text: str) -> str:
    """Return a word for a shell; in quotes where it has spaces, which every system's shell understands."""
    return f'"{text}"' if " " in text else text


def _clone() -> Path | None:
    """Return the clone that this package runs from, or None where it was installed."""
    folder = Path(aesedge.__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() and (folder / "Makefile").is_file() else None


def _named(bundle: Bundle) -> str:
    """Return what to type for a bundle: its name may be another bundle's where it was given as a folder."""
    return bundle.name if bundle.folder.name == bundle.name else _quoted(str(bundle.folder))


def _vision(bundle: Bundle, plan: Plan, built: Libraries) -> Iterator[Advice]:
    on_gpu = built.has_cuda_vision and plan.device in {"auto", "cuda"}
    types = [t.lower() for t in bundle.manifest.types("vision")]
    file = bundle.manifest.file("vision", plan.vision)
    if on_gpu or "int8" in types or file is None or file.n_bytes < _LARGE_GRAPH_BYTES:
        return
    why = (
        f"the vision graph is there in {', '.join(types)} only; in int8 a CPU is two to three times as fast "
        "(2.8 times on two Zen 4 cores)"
    )
    yield Advice("vision in int8", why, _export_again(bundle.manifest.source, ",".join([*types, "int8"])))


def _export_again(source: Source, precisions: str) -> str:
    """Return the command that makes a bundle with other vision graphs, as far as its manifest tells how it was made."""
    if source.layout.startswith("llama.cpp pair"):
        files = " ".join(_quoted(name) for name in source.checkpoint.split(" + "))
        return f"aesedge import {files} --vision {precisions}"
    return f"aesedge export {_quoted(source.checkpoint)} --vision {precisions}" if source.layout else ""


def _image_tokens(bundle: Bundle, options: Options) -> Iterator[Advice]:
    tokens = bundle.manifest.image_tokens
    if options.image_tokens is not None or tokens.min == tokens.max:
        return
    fewest = tokens.auto()
    if not tokens.curve:
        why = f"fewer than {tokens.max} are faster; what they cost was not measured with this bundle"
        yield Advice("image tokens", why, f"aesedge tune --bundle {_named(bundle)} --quality PHOTOS")
    elif fewest < tokens.max:
        drift = next(point.score_drift for point in tokens.curve if point.n == fewest)
        why = f"{fewest} of {tokens.max} move scores by {drift:.2f} of 10 points on average, as measured on photos"
        yield Advice("image tokens", why, f"aesedge run --bundle {_named(bundle)} --image-tokens auto")


def _tuning(bundle: Bundle, options: Options, plan: Plan) -> Iterator[Advice]:
    if options.tuned and load_profile(bundle.manifest, plan.gguf, options.device) is None:
        gguf = "" if options.gguf is None else f" --gguf {plan.gguf.lower()}"
        device = "" if options.device == "auto" else f" --device {options.device}"
        why = "which settings are fastest on this machine was not measured yet"
        yield Advice("tuning", why, f"aesedge tune --bundle {_named(bundle)}{gguf}{device}")


def _power_saving(signs: dict[str, str]) -> Iterator[Advice]:
    remedies: dict[str, str] = {}
    for what, found in signs.items():
        remedies.setdefault(remedy(what, platform.system()), f"{what}: {found}")  # one command may be against several
    remedies.pop("", None)
    for command, why in remedies.items():
        yield Advice("power saving", why, command)
    if "battery" in signs:
        yield Advice("power saving", "the machine runs on its battery: plug it in", "")


def _memory(bundle: Bundle, options: Options, plan: Plan, *, swaps: bool) -> Iterator[Advice]:
    files = sorted((f for f in bundle.manifest.files if f.role == "llm"), key=lambda file: file.n_bytes)
    own = bundle.manifest.file("llm", plan.gguf)
    if own is None:
        return
    if swaps:
        smaller = [file.type.lower() for file in files if file.n_bytes < own.n_bytes]
        command = f"aesedge run --bundle {_named(bundle)} --gguf {smaller[-1]}" if smaller else ""
        yield Advice("memory", "this machine swaps: close other programs" + (", or" if smaller else ""), command)
    better = next((file.type for file in files if file.n_bytes > own.n_bytes), None)
    if better is None:
        return
    try:
        limits = limits_now(plan.device, options.memory)
        needed = estimate(bundle, replace(plan, gguf=better), process_bytes=limits.process_bytes).needed_bytes
    except AesedgeError:
        return
    if needed > limits.ram_bytes:
        why = f"{better.lower()}, which is nearer to the original, needs {size_text(needed)}"
        if needed <= limits.free_bytes:
            yield Advice("memory", f"{why}; --memory allows {size_text(limits.ram_bytes)}", "")
        else:
            free = size_text(limits.free_bytes)
            yield Advice("memory", f"{why}; {free} are free: close other programs, or add memory", "")
