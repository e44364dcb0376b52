"""Check whether this machine can run a bundle: files, libraries, memory, cache folder, network."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aesedge.cache import DiskStore
from aesedge.config.memory import check_fit
from aesedge.config.planning import make_plan
from aesedge.doctor.network import check_network
from aesedge.doctor.probe import caught_warnings
from aesedge.errors import AesedgeError, BundleIntegrityError, InferenceError
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.system import machine
from aesedge.system.byte_sizes import size_text
from aesedge.system.paths import cache_folder
from aesedge.vision.providers import runtime_build

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options


_KEY = "0" * 64


class Finding(NamedTuple):
    """One check and its result."""

    name: str
    found: str
    """What was found, or what is wrong."""
    passed: bool = True


def examine_machine(bundle: Bundle, options: Options, show: Callable[[float], None]) -> list[Finding]:
    """Look at everything that loading and running the bundle needs."""
    looks: dict[str, Callable[[], str]] = {
        "files": lambda: _files(bundle, show),
        "llama.cpp": _llama_cpp,
        "vision": lambda: _vision(bundle, options),
        "memory": lambda: _memory(bundle, options),
        "cache folder": _cache_folder,
        "network": check_network,
    }
    found = []
    for name, look in looks.items():
        try:
            found.append(Finding(name, look()))
        except (AesedgeError, OSError) as error:
            found.append(Finding(name, str(error), passed=False))
    return found


def _files(bundle: Bundle, show: Callable[[float], None]) -> str:
    total, n_read = sum(file.n_bytes for file in bundle.manifest.files), 0

    def progress(n_bytes: int) -> None:
        nonlocal n_read
        n_read += n_bytes
        show(n_read / max(1, total))

    problems = [problem for _, problem in bundle.verify(progress) if problem]
    if problems:
        raise BundleIntegrityError("; ".join(problems))
    return f"{len(bundle.manifest.files)} files of bundle {bundle.name} are what its manifest says"


def _llama_cpp() -> str:
    gpus = ", ".join(f"{gpu.name} with {size_text(gpu.free_bytes)} free" for gpu in gpu_devices())
    version = machine.package_version("llama-cpp-python")
    return f"llama-cpp-python {version}, {gpus or 'no GPU'}, {machine.n_cores()} cores"


def _vision(bundle: Bundle, options: Options) -> str:
    version = runtime_build().version  # a bundle with one graph only is planned without ONNX Runtime
    return f"onnxruntime {version}, graph {make_plan(options, bundle).vision.lower()}"


def _memory(bundle: Bundle, options: Options) -> str:
    needed = check_fit(bundle, make_plan(options, bundle), options.memory).estimate
    free = machine.process_bytes() + machine.available_bytes()
    return f"{size_text(needed.needed_bytes)} needed, {size_text(free)} free"


def _cache_folder() -> str:
    """See that something can be kept and read back, beside what the user keeps and not among it."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=folder) as own, caught_warnings() as warnings:
        store = DiskStore(Path(own) / "kv", kind="kv", budget_bytes=None)
        store.put(_KEY, b"kept")
        entry = store.get(_KEY)
    if entry is None or entry.payload.tobytes() != b"kept":
        raise InferenceError(warnings[0] if warnings else f"{folder}: what is kept there cannot be read back")
    return f"{folder} can be written"
