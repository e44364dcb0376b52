"""Where the language model runs: how many layers on a GPU that llama.cpp was built for; knows devices, not models."""

from __future__ import annotations

import sys
from typing import Literal

from aesedge.errors import ProviderError
from aesedge.llm import binding

ALL_LAYERS = -1


def gpu_layers_for(device: str, asked: int | Literal["auto"]) -> int:
    """Return the number of layers to put on the GPU, -1 for all.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``metal``.
        asked: what the user asked for.

    Raises:
        ProviderError: a GPU was asked for, and this llama.cpp was built without it.
    """
    if device == "cpu":
        return 0
    can = bool(binding.load().llama_supports_gpu_offload())
    wants = device != "auto" or (asked not in {"auto", 0})
    if device == "metal" and sys.platform != "darwin":
        raise ProviderError("device metal: there is no Metal on this system; use --device auto")
    if wants and not can:
        flag = "-DGGML_METAL=on" if device == "metal" else "-DGGML_CUDA=on"
        raise ProviderError(
            f"device {device}: this llama-cpp-python was built for the CPU only; build it again with: "
            f'CMAKE_ARGS="{flag}" pip install --force-reinstall --no-binary llama-cpp-python llama-cpp-python'
        )
    if asked == "auto":
        return ALL_LAYERS if can else 0
    return asked
