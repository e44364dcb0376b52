"""Choose how many layers of the language model run on GPUs."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

from aesedge.errors import ProviderError
from aesedge.llm import binding
from aesedge.llm.build_info import llama_build
from aesedge.llm.ggml import ggml_function
from aesedge.system.cuda import no_cuda_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALL_LAYERS = -1
_GPU_TYPES = {1, 2}  # ggml_backend_dev_type: GPU, and GPU that shares the machine's memory
_LEAST_MARGIN_BYTES = 300 << 20
_MARGIN_SHARE = 0.08


class GpuDevice(NamedTuple):
    """A GPU that llama.cpp can use."""

    name: str
    free_bytes: int
    total_bytes: int
    shares_ram: bool = False
    """Whether its memory is the machine's own."""

    @property
    def usable_bytes(self) -> int:
        """Free memory less 8 % (300 MiB at least) for the desktop, the driver and fragmentation."""
        return max(0, self.free_bytes - max(_LEAST_MARGIN_BYTES, int(self.free_bytes * _MARGIN_SHARE)))


class LayerSizes(NamedTuple):
    """What a language model takes on a GPU, in bytes."""

    layers: Sequence[int]
    """Weights and KV cache of each layer, the first layer first."""
    output: int
    """The head after the last layer."""
    compute: int
    """Buffers that are needed on each device, however many layers it has."""


def gpu_devices() -> list[GpuDevice]:
    """Return the GPUs that llama.cpp was built for and that are there."""
    if not binding.load().llama_supports_gpu_offload():
        return []
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    kind = ggml_function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    name = ggml_function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = ggml_function("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    found = []
    for i in range(ggml_function("ggml_backend_dev_count", ctypes.c_size_t)()):
        device = get(i)
        if kind(device) in _GPU_TYPES:
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            memory(device, ctypes.byref(free), ctypes.byref(total))
            shares = sys.platform == "darwin" or kind(device) != min(_GPU_TYPES)
            found.append(GpuDevice(name(device).decode("utf-8", "replace"), free.value, total.value, shares))
    return found


def bytes_on_gpu(sizes: LayerSizes, n_layers: int) -> int:
    """Return what a number of layers (-1 is all) takes: llama.cpp places the head first, then the last layers."""
    n_all = len(sizes.layers) + 1
    n = n_all if n_layers < 0 else min(n_layers, n_all)
    if n == 0:
        return 0
    return sizes.compute + sizes.output + sum(sizes.layers[n_all - n :])


def layers_that_fit(sizes: LayerSizes, usable_bytes: Sequence[int]) -> int:
    """Return the largest number of layers that fits the GPUs' usable memory; -1 is all.

    Args:
        sizes: the model's.
        usable_bytes: of each device, its margin taken off.
    """
    # Every device needs compute buffers; the first set is included in bytes_on_gpu.
    room = sum(usable_bytes) - sizes.compute * max(0, len(usable_bytes) - 1)
    n_all = len(sizes.layers) + 1
    fitting = next((n for n in range(n_all, 0, -1) if bytes_on_gpu(sizes, n) <= room), 0)
    return ALL_LAYERS if fitting == n_all else fitting


def gpu_layers_for(
    device: str, asked: int | Literal["auto"], sizes: Callable[[], LayerSizes], *, reserved_bytes: int = 0
) -> int:
    """Return the number of layers to put on the GPU, -1 for all.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``metal``.
        asked: what the user asked for.
        sizes: computes what the model takes there; called for ``auto`` where there is a GPU.
        reserved_bytes: memory of the first GPU that is reserved, for example for the vision tower.

    Raises:
        ProviderError: a GPU was asked for, and this llama.cpp was built without it or sees none.
    """
    if device == "cpu":
        return 0
    can = bool(binding.load().llama_supports_gpu_offload())
    wants = device != "auto" or (asked not in {"auto", 0})
    if device == "metal" and sys.platform != "darwin":
        raise ProviderError("device metal: there is no Metal on this system; use --device auto")
    if wants and not can and device != "metal" and "CUDA" in llama_build().backends:
        why = no_cuda_gpu() or "the driver is too old for it"
        raise ProviderError(
            f"device {device}: llama.cpp was built for CUDA and sees no GPU: {why}; --device cpu runs without one"
        )
    if wants and not can:
        flag = "-DGGML_METAL=on" if device == "metal" else "-DGGML_CUDA=on"
        raise ProviderError(
            f"device {device}: this llama-cpp-python was built for the CPU only; build it again with: "
            f"{binding.build_again(flag)}"
        )
    if asked != "auto":
        return asked
    usable = [gpu.usable_bytes for gpu in gpu_devices()] if can else []
    if not usable:
        return 0
    usable[0] -= reserved_bytes
    return layers_that_fit(sizes(), usable)
