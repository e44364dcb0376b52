"""Read a checkpoint's language model with llama.cpp's tensor names, key/values and row order."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import gguf
import numpy as np

from ..checkpoint.layouts import language_shapes
from .language_source import UnpackedSource

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..checkpoint.architecture import Architecture
    from ..checkpoint.checkpoint import Checkpoint
    from ..checkpoint.vocabulary import Vocabulary

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OTHER_NAMES = {
    "language_model.embed_tokens.weight": "token_embd.weight",
    "language_model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PRECISIONS = {"torch.bfloat16": "BF16", "torch.float16": "F16"}


class CheckpointSource(UnpackedSource):
    """A :class:`~.language_source.LanguageSource` of a checkpoint, as llama.cpp's own converter lays it out.

    Args:
        checkpoint: where the weights come from.
        name: what the files say the model is called.
    """

    def __init__(self, checkpoint: Checkpoint, *, name: str) -> None:
        self._checkpoint = checkpoint
        self._name = name
        canonical = language_shapes(checkpoint.architecture.text)
        self._canonical = {gguf_name(ours): ours for ours in canonical}
        self.where = str(checkpoint.folder)
        self.shapes = {gguf_name(ours): shape for ours, shape in canonical.items()}

    @cached_property
    def fields(self) -> dict[str, gguf.GGUFValue]:
        """All key/values but ``general.file_type`` and ``general.quantization_version``."""
        writer = gguf.GGUFWriter(None, "llama")
        _add_architecture(writer, self._checkpoint.architecture, self._name)
        _add_vocabulary(writer, self._checkpoint.vocabulary)
        return dict(writer.kv_data[0])

    @property
    def precision(self) -> str:
        """The type of file that holds all of the checkpoint's matrices as they are."""
        matrices = [self._canonical[name] for name, shape in self.shapes.items() if len(shape) > 1]
        found = {_PRECISIONS.get(str(self._checkpoint.dtype(name)), "F32") for name in matrices}
        return found.pop() if len(found) == 1 else "F32"

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return rows [start, stop) as float32 [stop - start, n_in]; a vector is one row."""
        canonical, shape = self._canonical[name], self.shapes[name]
        if len(shape) == 1:
            return self._checkpoint.tensor(canonical).float().numpy().reshape(1, -1)
        text = self._checkpoint.architecture.text
        if not name.endswith(("attn_q.weight", "attn_k.weight")):
            return self._checkpoint.rows(canonical, start, stop).float().numpy()
        # The order changes within a head, so whole heads are read.
        width = text.head_dim
        first = start - start % width
        heads = self._checkpoint.rows(canonical, first, -(-stop // width) * width).float().numpy()
        return interleave_rope(heads, width)[start - first : stop - first]


def gguf_name(canonical: str) -> str:
    """Return llama.cpp's name of a tensor of the language model."""
    if canonical in _OTHER_NAMES:
        return _OTHER_NAMES[canonical]
    _, _, layer, inner = canonical.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[inner.removesuffix('.weight')]}.weight"


def interleave_rope(rows: npt.NDArray[np.float32], head_dim: int) -> npt.NDArray[np.float32]:
    """Reorder the rows of whole heads [n * head_dim, n_in] from transformers' rotary halves to llama.cpp's pairs."""
    n_rows, n_in = rows.shape
    halves = rows.reshape(n_rows // head_dim, 2, head_dim // 2, n_in)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(n_rows, n_in)


def _add_architecture(writer: gguf.GGUFWriter, architecture: Architecture, name: str) -> None:
    text = architecture.text
    writer.add_type("model")
    writer.add_name(name)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(text.num_attention_heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(text.rope_theta)
    writer.add_rope_dimension_count(text.head_dim)
    writer.add_vocab_size(text.vocab_size)
    if text.head_dim * text.num_attention_heads != text.hidden_size:
        writer.add_key_length(text.head_dim)
        writer.add_value_length(text.head_dim)
    scaling = text.rope_scaling or {}
    if scaling.get("rope_type", scaling.get("type")) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(scaling["factor"]))


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(vocabulary.eos)
    writer.add_unk_token_id(vocabulary.unk)
    if vocabulary.pad is not None:
        writer.add_pad_token_id(vocabulary.pad)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
