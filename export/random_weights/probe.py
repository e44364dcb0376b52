"""Write small language models as wide as a large one, to time what a quantization type costs per layer.

Few layers, and still more weights than a processor's cache holds, or decoding would not read memory. Of the types that
are mixtures (Q4_K_M) llama.cpp's quantizer gives half of the layers more bits in a model of 2, 4, 8 or 16 layers, as in
one of 32 or 40.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aesedge.errors import CheckpointError

from ..disk_space import require_space
from ..language.gguf_reading import open_gguf
from ..language.tensor_types import parse_type
from .language import write_random
from .shapes import ModelShape, checked_shape
from .size_estimate import bytes_per_token, language_of, weight_bytes

if TYPE_CHECKING:
    from pathlib import Path

_EMBEDDINGS = "token_embd.weight"
_N_LAYERS, _N_VOCAB = (2, 4, 8, 16), 2048
_LEAST_WEIGHTS = 300_000_000
"""In 2 bits 100 MB, which is more than a core's share of the largest caches."""
_KEYS = {
    "n_embd": "embedding_length",
    "n_ff": "feed_forward_length",
    "n_head": "attention.head_count",
    "n_layer": "block_count",
    "n_ctx": "context_length",
}


def shape_of(path: Path) -> ModelShape:
    """Return the numbers of a GGUF file's language model; the tower's are LLaVA-1.5's, whatever it has.

    Raises:
        CheckpointError: the header does not say them.
        UsageError: they do not go together.
    """
    file = open_gguf(path)
    numbers: dict[str, Any] = {ours: file.get(f"llama.{theirs}", int) for ours, theirs in _KEYS.items()}
    numbers["n_head_kv"] = file.get("llama.attention.head_count_kv", int, numbers["n_head"])
    if _EMBEDDINGS not in file.shapes:
        raise CheckpointError(f"{path}: has no {_EMBEDDINGS}; nothing can be predicted from it")
    return checked_shape(replace(ModelShape("probe"), n_vocab=file.shapes[_EMBEDDINGS][0], **numbers))


class ProbeWriter:
    """Writes probes of one language model; called with a type and a path, as ``predict`` wants it.

    Args:
        shape: the large model's.
    """

    def __init__(self, shape: ModelShape) -> None:
        self._shape = shape
        self._probe = replace(shape, n_layer=_n_layers(shape), n_vocab=_N_VOCAB)

    def __call__(self, gguf_type: str, path: Path) -> int:
        """Write a probe.

        Returns:
            Bytes of weights that decoding a token reads in the large model of that type.

        Raises:
            UsageError: there is no such type.
            BundleError: there is no room for it.
        """
        kind = parse_type(gguf_type)
        require_space(path.parent, sum(weight_bytes(self._probe, kind).values()), "a small model to predict from")
        write_random(language_of(self._probe), kind, path)
        return bytes_per_token(self._shape, kind)


def _n_layers(shape: ModelShape) -> int:
    """Return the fewest layers that have enough weights, or all of them."""
    kv = shape.n_head_kv * shape.head_dim
    of_layer = shape.n_embd * (2 * shape.n_embd + 2 * kv + 3 * shape.n_ff)
    n = next((n for n in _N_LAYERS if n * of_layer >= _LEAST_WEIGHTS), _N_LAYERS[-1])
    return min(n, shape.n_layer)
