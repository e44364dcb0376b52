"""Versions and builds of llama.cpp and ONNX Runtime, as they are installed."""

from __future__ import annotations

import msgspec

from aesedge.errors import AesedgeError
from aesedge.llm.accelerator import kernels
from aesedge.llm.build_info import llama_build
from aesedge.system.machine import package_version
from aesedge.vision.providers import PROVIDERS, runtime_build

_ON = {"1", "ON"}
RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
"""ONNX Runtime's two packages, which have the same files."""


class Libraries(msgspec.Struct, frozen=True, kw_only=True):
    """Versions and builds; a text is empty, and a list too, where a library is missing or does not tell."""

    llama_cpp_python: str = ""
    llama_cpp: str = ""
    """llama.cpp's own version."""
    ggml: str = ""
    ggml_commit: str = ""
    """Of the source tree that llama.cpp and ggml were compiled in, as far as the build knew it."""
    backends: list[str] = []
    """Of ggml: CPU, CUDA, Metal."""
    devices: list[str] = []
    """What they found here."""
    cpu_features: list[str] = []
    """What ggml's CPU backend was compiled for."""
    gpu_features: list[str] = []
    """The same of its other backends: ``CUDA ARCHS=900``."""
    kernels: str = ""
    """Instructions of aesedge's own matrix kernels; empty where there are none."""
    kernels_missing: str = ""
    """Why there are none."""
    extra_buffers: list[str] = []
    """Layouts into which ggml can copy weights: CPU_REPACK."""
    onnxruntime: str = ""
    onnxruntime_packages: list[str] = []
    """Names of the installed packages that bring it; two overwrite each other's files."""
    onnxruntime_build: str = ""
    """How it was built, in its own words."""
    providers: list[str] = []
    """Its execution providers."""
    problems: list[str] = []
    """Why a library could not be asked."""

    @property
    def has_cuda_vision(self) -> bool:
        """Whether ONNX Runtime was built for CUDA."""
        return PROVIDERS["cuda"] in self.providers


def libraries() -> Libraries:
    """Ask the installed libraries what they are; a library that does not load is named among the problems."""
    found: dict[str, object] = {}
    problems = []
    for ask in (_llama_cpp, _onnxruntime):
        try:
            found |= ask()
        except (AesedgeError, OSError) as error:
            problems.append(str(error))
    packages = [name for name in RUNTIME_PACKAGES if package_version(name)]
    version = package_version("llama-cpp-python")
    found |= {"llama_cpp_python": version, "onnxruntime_packages": packages, "problems": problems}
    return msgspec.convert(found, Libraries)


def _llama_cpp() -> dict[str, object]:
    build, own = llama_build(), kernels()
    others = {name: features for name, features in build.features.items() if name != "CPU"}
    return {
        "llama_cpp": build.llama_version,
        "ggml": build.ggml_version,
        "ggml_commit": build.ggml_commit,
        "backends": build.backends,
        "devices": build.devices,
        "cpu_features": [name for name, value in build.features.get("CPU", {}).items() if value in _ON],
        "gpu_features": [f"{name} {key}={value}" for name, found in others.items() for key, value in found.items()],
        "extra_buffers": build.extra_buffers,
        "kernels": own.path,
        "kernels_missing": own.reason,
    }


def _onnxruntime() -> dict[str, object]:
    build = runtime_build()
    return {"onnxruntime": build.version, "onnxruntime_build": build.build, "providers": build.providers}
