"""List the quantization types of GGUF files that bundles are made in: a new type is one row here.

Where a type mixes tensor types, the rules for its mix stand in export/language/tensor_types.py.
"""

from __future__ import annotations

from typing import NamedTuple


class GgufType(NamedTuple):
    """A quantization type of a whole file."""

    ftype: int
    """llama.cpp's ``llama_ftype``, stored as ``general.file_type``."""
    tensor_type: str
    """ggml's name of the type that most matrices get."""
    bits: float
    """Bits per weight of LLaVA-1.5's language model, rounded up: a mix keeps some tensors at more bits."""
    is_common: bool = False
    """Whether benches predict it, and messages suggest it, where no types are named."""


GGUF_TYPES = {
    "F32": GgufType(0, "F32", 32.0),
    "F16": GgufType(1, "F16", 16.0),
    "BF16": GgufType(32, "BF16", 16.0),
    "Q8_0": GgufType(7, "Q8_0", 8.5, is_common=True),
    "Q6_K": GgufType(18, "Q6_K", 6.6, is_common=True),
    "Q5_K_M": GgufType(17, "Q5_K", 5.8, is_common=True),
    "Q5_K_S": GgufType(16, "Q5_K", 5.7),
    "Q5_0": GgufType(8, "Q5_0", 5.7),
    "Q4_K_M": GgufType(15, "Q4_K", 4.9, is_common=True),
    "Q4_K_S": GgufType(14, "Q4_K", 4.7),
    "Q4_0": GgufType(2, "Q4_0", 4.7, is_common=True),
    "IQ4_NL": GgufType(25, "IQ4_NL", 4.7),
    "Q3_K_M": GgufType(12, "Q3_K", 4.0, is_common=True),
    "Q2_K": GgufType(10, "Q2_K", 3.4, is_common=True),
}
"""By name, the most precise first."""
PRECISE_TYPES = ("F32", "F16", "BF16", "Q8_0")
"""Precise enough to quantize from; the same with and without an importance matrix."""
FLOAT_TYPES = PRECISE_TYPES[:3]
COMMON_TYPES = tuple(name.lower() for name, row in GGUF_TYPES.items() if row.is_common)
