"""Estimate the disk space and memory that a bundle of a shape takes before it is made.

A bundle that is there is estimated by :mod:`aesedge.config.memory` from its files; this is for shapes that have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.config.plan import ROOM_FOR_TEXT

from ..language.ggml import row_bytes
from ..language.gguf_output import as_matrix, plan_layout
from ..plan import BYTES_PER_WEIGHT
from .language import RandomLanguage
from .tower import RandomTower
from .vocabulary import make_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .shapes import ModelShape

_EMBEDDINGS = "token_embd.weight"
_PREFIX = 64  # positions of the text before the image, rounded up
_KV_BYTES = 2  # of a value in f16
_BATCH = 1024  # rows whose intermediate values llama.cpp has room for
_PROCESS_BYTES = 150 << 20
_LOADING = {"fp32": 1.8, "fp16": 3.65, "int8": 1.8}
"""Most that a vision graph takes while it loads, in sizes of its file; see :mod:`aesedge.config.memory.estimate`."""
_MAKING = 1.35
"""Most that making a graph takes, in sizes of the tower in float32: 1590 MiB measured for ViT-L/14-336
in int8, with the process."""


def language_of(shape: ModelShape, *, name: str = "", seed: int = 0) -> RandomLanguage:
    """Return the language model of a shape."""
    return RandomLanguage(shape, make_vocabulary(shape.n_vocab), name=name or shape.name, seed=seed)


def weight_bytes(shape: ModelShape, gguf_type: str) -> dict[str, int]:
    """Return each tensor's bytes in a file of a type, without its padding."""
    source = language_of(shape)
    types = plan_layout(source, gguf_type, weighted=False).types
    matrices = {name: as_matrix(tensor) for name, tensor in source.shapes.items()}
    return {name: n_rows * row_bytes(types[name], n_in) for name, (n_rows, n_in) in matrices.items()}


def bytes_per_token(shape: ModelShape, gguf_type: str) -> int:
    """Return the weights that decoding a token reads: all but the table of tokens, of which it is a row."""
    return sum(n for name, n in weight_bytes(shape, gguf_type).items() if name != _EMBEDDINGS)


def memory_parts(shape: ModelShape, gguf_type: str, vision_types: Sequence[str]) -> dict[str, int]:
    """Return what running a bundle takes, or making it where that is more, part by part in bytes.

    Args:
        shape: the shape.
        gguf_type: the type that is run.
        vision_types: precisions, of which the one that takes most is run.
    """
    tower = RandomTower(shape, seed=0)
    n_cells = _PREFIX + tower.shape.n_image_tokens + ROOM_FOR_TEXT
    graphs = [_LOADING[p] * BYTES_PER_WEIGHT[p] * tower.n_parameters for p in vision_types]
    running = {
        "weights": sum(weight_bytes(shape, gguf_type).values()),
        "KV cache": 2 * shape.n_layer * shape.n_head_kv * shape.head_dim * _KV_BYTES * n_cells,
        "vision tower": int(max(graphs, default=0)),
        "compute buffers": 4 * _BATCH * (2 * shape.n_ff + 4 * shape.n_embd),
        "process": _PROCESS_BYTES,
    }
    making = {"making the vision graph": int(_MAKING * 4 * tower.n_parameters), "process": _PROCESS_BYTES}
    return max(running, making, key=lambda parts: sum(parts.values()))
