"""Open a language model without its weights, to ask llama.cpp what its buffers would take.

llama.cpp can "simulate memory allocations" (``no_alloc``): it reads the header and the vocabulary and plans every graph
for it, in about 50 ms at 7B. The figures are in its log; the call that returns them is C++. Its plan covers KV cache,
compute buffers and outputs; weights are not in its log, ``header`` counts those.
"""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from aesedge.errors import ModelLoadError
from aesedge.llm import binding
from aesedge.llm.limits import FLASH_AUTO, KV_TYPES
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1 << 20
_COMPUTE = re.compile(r"^sched_reserve:\s+(\S+) compute buffer size =\s*([\d.]+) MiB", re.MULTILINE)
_OUTPUT = re.compile(r"output buffer size =\s*([\d.]+) MiB")
_KV = re.compile(r"^llama_kv_cache: size =\s*([\d.]+) MiB", re.MULTILINE)


class Buffers(NamedTuple):
    """What one context takes, in bytes."""

    kv: int
    """The cache, over all layers."""
    compute: dict[str, int]
    """Buffers of the largest graph, by device."""
    output: int
    """Logits that the program reads."""


class DryRun(Closing):
    """A GGUF file's header and vocabulary in llama.cpp. Use it as a context manager, or close it.

    Raises:
        ModelLoadError: llama.cpp refuses the file.
    """

    def __init__(self, path: Path, *, gpu_layers: int = 0, repack: bool = True) -> None:
        self.path = path
        lib = self._lib = binding.load()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 2**31 - 1
        params.use_extra_bufts = repack
        params.no_alloc = True
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE  # nothing is there that could be mapped
        binding.clear_log()
        self._handle: Any = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._handle:
            reason = binding.last_complaint() or "no reason given"
            raise ModelLoadError(f"{path}: llama.cpp cannot load it: {reason}; export or install the bundle again")
        self._vocab = lib.llama_model_get_vocab(self._handle)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = lib.llama_model_n_embd_inp(self._handle)
        self.n_layer: int = lib.llama_model_n_layer(self._handle)

    def n_tokens(self, text: str) -> int:
        """Return how many tokens a text has, without BOS."""
        data = text.encode("utf-8", "replace")
        # Asked without room for the answer, llama.cpp returns how much is missing, as a negative number.
        return -int(self._lib.llama_tokenize(self._vocab, data, len(data), None, 0, False, False)) if data else 0

    def buffers(
        self, *, n_ctx: int, n_batch: int, n_seq_max: int, kv_type: str, flash_attention: bool = True
    ) -> Buffers:
        """Plan a context as :class:`aesedge.llm.Context` opens it.

        Raises:
            ModelLoadError: llama.cpp refuses these settings.
        """
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = n_ctx, n_batch, n_batch, n_seq_max
        params.type_k = params.type_v = KV_TYPES[kv_type]
        params.flash_attn_type = FLASH_AUTO if flash_attention else 0
        params.kv_unified = True
        log: list[str] = []
        before, data = lib.llama_log_callback(), ctypes.c_void_p()
        lib.llama_log_get(ctypes.byref(before), ctypes.byref(data))
        keep = lib.llama_log_callback(lambda _level, text, _data: log.append((text or b"").decode("utf-8", "replace")))
        lib.llama_log_set(keep, ctypes.c_void_p(0))
        try:
            handle = lib.llama_init_from_model(self._handle, params)
        finally:
            lib.llama_log_set(before, data)
        if not handle:
            raise ModelLoadError(
                f"{self.path}: no context of {n_ctx} positions: {' '.join(log[-1:]).strip() or 'no reason given'}; "
                "try a smaller --ctx, or --kv-type f16"
            )
        lib.llama_free(handle)
        return _read("".join(log))

    def close(self) -> None:
        """Free it. Closing twice does nothing."""
        handle, self._handle = self._handle, None
        if handle:
            self._lib.llama_model_free(handle)


def _read(log: str) -> Buffers:
    kv = sum(float(n) for n in _KV.findall(log))
    output = sum(float(n) for n in _OUTPUT.findall(log))
    compute = {device: int(float(n) * _MIB) for device, n in _COMPUTE.findall(log)}
    if not kv or not compute:
        raise ModelLoadError("llama.cpp's log says no buffer sizes; install the llama-cpp-python that aesedge asks for")
    return Buffers(int(kv * _MIB), compute, int(output * _MIB))
