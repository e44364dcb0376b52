"""Define the sizes and types of llama.cpp's contexts, for planning without a context."""

from __future__ import annotations

KV_TYPES = {"f16": 1, "q8_0": 8}
"""Name to ggml_type."""
FLASH_AUTO = -1  # llama_flash_attn_type
N_SEQ_MAX = 64  # sequences cost llama.cpp next to nothing in a unified cache
N_BATCH_MAX = 1024  # enough for LLaVA-1.5's 576 image tokens and the text around them in one graph
N_CTX_PAD = 256
"""llama.cpp rounds the number of cells up to a multiple of this."""


def padded_n_ctx(n_ctx: int) -> int:
    """Return the number of cells that llama.cpp allocates for a context of ``n_ctx`` positions."""
    return -(-n_ctx // N_CTX_PAD) * N_CTX_PAD


def even_ubatch(n: int, n_ubatch: int) -> int:
    """Return the size of even batches for n positions, at most ``n_ubatch``.

    With fewer than 64 positions in a batch llama.cpp computes attention differently (sums in float16), so the last
    batch must not be a small remainder.
    """
    return -(-n // -(-n // n_ubatch))
