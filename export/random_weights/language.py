"""Write a Llama with random weights as GGUF files of any type, as fast as the disk takes them.

Of each matrix a few rows are drawn and quantized; the file's rows are made of them. The layers' matrices repeat them.
Token embeddings and head are put together from parts of them, a row of each token's own: the head's row for the token
that follows another answers that one's embedding, so the likeliest token is clear, as in trained models.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from ..language.checkpoint_source import CheckpointSource
from ..language.ggml import quantize_rows
from ..language.gguf_output import GgufOutput, as_matrix, plan_layout
from ..language.language_gguf import PassProgress
from ..language.language_source import UnpackedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import gguf
    import numpy.typing as npt

    from ..language.language_gguf import Rows
    from .shapes import ModelShape
    from .vocabulary import RandomVocabulary

_EMBEDDINGS, _HEAD = "token_embd.weight", "output.weight"
_INTO_STREAM = ("attn_output.weight", "ffn_down.weight")
"""What adds to the stream from layer to layer: smaller, the deeper the model is, so that the stream stays alike."""
_GAIN = 1.3  # of a matrix whose inputs are 1 on average: its outputs then
_SUCCESSOR = 20.0  # logit of the token that follows, among logits of standard deviation 1.3, in a model without layers
_N_ROWS = 64
"""Rows that are drawn of a layer's matrix."""
_POOL_VALUES = 4 << 20
"""Values that are drawn of token embeddings and head, if their rows have several parts."""
_PART = 256  # values in a part of a row: a multiple of every type's block
_CHUNK_VALUES = 4 << 20  # what is put together and written at once


class RandomLanguage(UnpackedSource):
    """A :class:`~.language_source.LanguageSource` of random weights.

    Args:
        shape: its sizes.
        vocabulary: its tokens.
        name: what the files say the model is called.
        seed: another number gives other weights.
    """

    where = "random weights"

    def __init__(self, shape: ModelShape, vocabulary: RandomVocabulary, *, name: str, seed: int) -> None:
        source = CheckpointSource(_like_a_checkpoint(shape, vocabulary), name=name)
        self.fields: Mapping[str, gguf.GGUFValue] = source.fields
        self.shapes: Mapping[str, tuple[int, ...]] = source.shapes
        self._n_layers, self._seed = shape.n_layer, seed
        self._before = _predecessors(shape.n_vocab, vocabulary.n_special, np.random.default_rng([seed, 0]))

    def drawn(self, name: str) -> Rows:
        """Return the rows that a matrix is made of, float32 [n, n_in]; a vector is one row, of ones."""
        n_rows, n_in = as_matrix(self.shapes[name])
        if n_rows == 1:
            return np.ones((1, n_in), np.float32)
        random = np.random.default_rng([self._seed, crc32(name.encode())])
        rows = random.standard_normal((self._n_drawn(name), n_in), np.float32)
        if name == _EMBEDDINGS:
            return rows
        scale = _GAIN / math.sqrt(n_in)
        if name.endswith(_INTO_STREAM):
            scale /= math.sqrt(2 * self._n_layers)
        rows *= np.float32(scale)
        if name == _HEAD:
            rows += np.float32(_SUCCESSOR / n_in) * self.drawn(_EMBEDDINGS)
        return rows

    def arranged(self, name: str, drawn: npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows [start, stop) made of the drawn ones, which may be quantized: [stop - start, ...]."""
        at = self._places(name, start, stop)
        parts = drawn.reshape(len(drawn), at.shape[1], -1)
        return parts[at, np.arange(at.shape[1])].reshape(stop - start, -1)

    def rows(self, name: str, start: int, stop: int) -> Rows:
        """Return rows [start, stop) as float32 [stop - start, n_in]; a vector is one row."""
        return self.arranged(name, self.drawn(name), start, stop)

    def _n_parts(self, name: str) -> int:
        """Return of how many parts a row is put together."""
        n_rows, n_in = as_matrix(self.shapes[name])
        if name not in {_EMBEDDINGS, _HEAD} or n_rows * n_in <= _POOL_VALUES:
            return 1
        return n_in // math.gcd(n_in, _PART)

    def _n_drawn(self, name: str) -> int:
        n_rows, n_in = as_matrix(self.shapes[name])
        if name not in {_EMBEDDINGS, _HEAD}:
            return min(n_rows, _N_ROWS)
        return n_rows if self._n_parts(name) == 1 else min(n_rows, max(_POOL_VALUES // n_in, math.isqrt(n_rows) + 1))

    def _places(self, name: str, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return which drawn row each part of each row is of, int64 [stop - start, n_parts]."""
        wanted = np.arange(start, stop)
        n_drawn = self._n_drawn(name)
        if name == _HEAD:
            wanted = self._before[wanted]
        turn, place = np.divmod(wanted, n_drawn)  # each pass through the drawn rows shifts the parts by another amount
        found: npt.NDArray[np.int64] = (place[:, None] + turn[:, None] * np.arange(self._n_parts(name))) % n_drawn
        return found


def write_random(
    source: RandomLanguage, file_type: str, path: Path, *, progress: Callable[[PassProgress], None] | None = None
) -> dict[str, str]:
    """Write a file: the bytes of :func:`.language_gguf.write_language`, without quantizing every row.

    Args:
        source: the model.
        file_type: a key of ``GGUF_TYPES``.
        path: the file.
        progress: called after every chunk.

    Returns:
        The tensors whose rows do not fit the wanted tensor type, and the type in which they are stored.

    Raises:
        BundleError: the file cannot be written.
    """
    layout = plan_layout(source, file_type, weighted=False)
    with GgufOutput(path, source, layout) as file:
        for name, shape in source.shapes.items():
            n_rows, n_in = as_matrix(shape)
            drawn = quantize_rows(source.drawn(name), layout.types[name])
            step = max(1, _CHUNK_VALUES // n_in)
            for start in range(0, n_rows, step):
                file.write(source.arranged(name, drawn, start, min(start + step, n_rows)))
                if progress is not None:
                    progress(PassProgress(name, file.n_data_bytes, layout.n_bytes))
            file.end_tensor()
    return layout.stored_otherwise


def _predecessors(n_vocab: int, n_special: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return for each token the one that it follows: one circle through all that text is made of."""
    circle = n_special + random.permutation(n_vocab - n_special)
    before = np.arange(n_vocab)
    before[circle] = np.roll(circle, 1)
    return before


def _like_a_checkpoint(shape: ModelShape, vocabulary: RandomVocabulary) -> Any:
    """Return what :class:`CheckpointSource` reads of a checkpoint, so that names and key/values are export's."""
    text = SimpleNamespace(
        num_hidden_layers=shape.n_layer,
        max_position_embeddings=shape.n_ctx,
        hidden_size=shape.n_embd,
        intermediate_size=shape.n_ff,
        num_attention_heads=shape.n_head,
        num_key_value_heads=shape.n_head_kv,
        head_dim=shape.head_dim,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        rope_scaling=None,
        vocab_size=shape.n_vocab,
        tie_word_embeddings=False,
    )
    return SimpleNamespace(folder="random weights", architecture=SimpleNamespace(text=text), vocabulary=vocabulary)
