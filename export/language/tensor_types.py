"""Choose the type of each tensor in each type of file, as llama.cpp does for Llama models.

A file type such as Q4_K_M is a mix: most matrices get one tensor type, those that suffer most a larger one. The rules
are llama.cpp's (``llama-quant.cpp`` at 0c1e57098); the tests hold them against its quantizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import gguf

from aesedge.bundle.gguf_types import FLOAT_TYPES, GGUF_TYPES
from aesedge.errors import UsageError

ASKED_TYPES = tuple(name for name in GGUF_TYPES if name != "F32")
"""What users may ask for, the most precise first; F32 is written for comparisons only."""

_SMALLER_BLOCKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What a type of blocks of 256 gives way to where a row is not a multiple of 256."""


@dataclass(frozen=True)
class Mix:
    """What of a model, and of how it is quantized, decides on the types."""

    n_layers: int
    n_gqa: int
    """Query heads for each key-value head."""
    tied: bool
    """Whether the token embedding is the output matrix too."""
    importance: bool
    """Whether it is known how much each input of the matrices matters."""


@dataclass(frozen=True)
class _Place:
    mix: Mix
    layer: int


_Rule = Callable[[_Place], bool]


def _always(_: _Place) -> bool:
    return True


def _in_first(n: int) -> _Rule:
    return lambda at: at.layer < n


def _in_first_part(n: int) -> _Rule:
    return lambda at: at.layer < at.mix.n_layers // n


def _shared_by_4(at: _Place) -> bool:
    return at.mix.n_gqa >= 4


def _at_the_ends_or_a_third(at: _Place) -> bool:
    """Return whether a layer is in the first or last eighth, or every third one between: mixes "M" give these more."""
    n, eighth = at.mix.n_layers, at.mix.n_layers // 8
    return at.layer < eighth or at.layer >= 7 * n // 8 or (at.layer - eighth) % 3 == 2


def _early_unweighted(at: _Place) -> bool:
    return _in_first_part(8)(at) and not at.mix.importance


def _early_weighted(at: _Place) -> bool:
    return _in_first_part(8)(at) and at.mix.importance


_EXCEPTIONS: dict[tuple[str, str], list[tuple[_Rule, str]]] = {
    ("Q5_K_M", "attn_v"): [(_at_the_ends_or_a_third, "Q6_K")],
    ("Q5_K_M", "ffn_down"): [(_at_the_ends_or_a_third, "Q6_K")],
    ("Q5_0", "ffn_down"): [(_early_weighted, "Q5_1")],
    ("Q4_K_M", "attn_v"): [(_at_the_ends_or_a_third, "Q6_K")],
    ("Q4_K_M", "ffn_down"): [(_at_the_ends_or_a_third, "Q6_K")],
    ("Q4_K_S", "attn_v"): [(_in_first(4), "Q5_K")],
    ("Q4_K_S", "ffn_down"): [(_in_first_part(8), "Q5_K")],
    ("Q4_0", "ffn_down"): [(_early_weighted, "Q4_1")],
    ("Q3_K_M", "attn_v"): [(_in_first(2), "Q5_K"), (_always, "Q4_K")],
    ("Q3_K_M", "attn_output"): [(_always, "Q4_K")],
    ("Q3_K_M", "ffn_down"): [(_in_first_part(16), "Q5_K"), (_always, "Q4_K")],
    ("IQ4_NL", "attn_v"): [(_shared_by_4, "Q5_K")],
    ("IQ4_NL", "ffn_down"): [(_early_unweighted, "Q5_K")],
    ("Q2_K", "attn_v"): [(_shared_by_4, "Q4_K"), (_always, "Q3_K")],
    ("Q2_K", "attn_output"): [(_always, "Q3_K")],
    ("Q2_K", "ffn_down"): [(_always, "Q3_K")],
}
"""File type and matrix to the types that its layers get instead; the first rule that holds counts."""


def parse_type(text: str) -> str:
    """Return a file type as llama.cpp writes it, from any case.

    Raises:
        UsageError: export cannot make it.
    """
    name = text.strip().upper()
    if name not in ASKED_TYPES:
        raise UsageError(f"unknown quantization type {text!r}; there are {', '.join(ASKED_TYPES)}")
    return name


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor takes the file's type; norms and other vectors keep their own."""
    return len(shape) > 1 and name.endswith("weight") and not name.endswith("_norm.weight")


def wanted_type(file_type: str, name: str, n_in: int, mix: Mix) -> str:
    """Return the tensor type of a matrix before it is known whether its rows fit.

    Args:
        file_type: one of ``GGUF_TYPES``.
        name: llama.cpp's name of the tensor, e.g. ``blk.0.attn_q.weight``.
        n_in: values in a row.
        mix: what else decides.
    """
    most = GGUF_TYPES[file_type].tensor_type
    if file_type in FLOAT_TYPES:
        return most
    if name == "output.weight" or (name == "token_embd.weight" and mix.tied):
        return "Q8_0" if file_type == "Q8_0" or not _fits(most, n_in) else "Q6_K"
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if found is None:
        return most
    at, matrix = _Place(mix, int(found[1])), found[2]
    chosen = next((other for rule, other in _EXCEPTIONS.get((file_type, matrix), []) if rule(at)), most)
    # What llama.cpp calls a 70B: its attn_v are so small that more bits there cost next to nothing.
    if matrix == "attn_v" and mix.n_layers == 80 and mix.n_gqa > 1 and chosen in {"Q3_K", "Q4_K"}:
        return "Q5_K"
    return chosen


def fitting_type(wanted: str, n_in: int) -> str:
    """Return a tensor type, or the nearest one of smaller blocks where a row is no multiple of its block."""
    if _fits(wanted, n_in):
        return wanted
    smaller = _SMALLER_BLOCKS.get(wanted, wanted)
    return smaller if _fits(smaller, n_in) else "F16"


def _fits(ggml_type: str, n_in: int) -> bool:
    n_block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[ggml_type]]
    return n_in % n_block == 0
