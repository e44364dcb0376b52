"""Matrix products of quantized weights for llama.cpp on CPUs: a ggml backend in C++, compiled on the user's machine."""

from __future__ import annotations

from aesedge.kernels.library import Library, find_library, is_for

__all__ = ["Library", "find_library", "is_for"]
