"""The language model as a GGUF file in half precision, as llama.cpp's own converter lays it out.

One tensor is in memory at a time: names and shapes are written first, then the values in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import numpy.typing as npt
import torch

from aesedge.errors import CheckpointError

from .layouts import language_shapes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .architecture import Architecture
    from .checkpoint import Checkpoint
    from .vocabulary import Vocabulary

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


def write_f16(checkpoint: Checkpoint, path: Path, *, name: str, progress: Callable[[float], None]) -> None:
    """Write the language model with F16 matrices and F32 norms.

    Args:
        checkpoint: where the weights come from.
        path: the file to write.
        name: what the file says the model is called.
        progress: called with the written share, 0..1.

    Raises:
        CheckpointError: a weight is not finite or does not fit F16.
    """
    shapes = language_shapes(checkpoint.architecture.text)
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _add_architecture(writer, checkpoint.architecture, name)
        _add_vocabulary(writer, checkpoint.vocabulary)
        for canonical, shape in shapes.items():
            dtype = np.dtype(np.float16 if len(shape) > 1 else np.float32)
            writer.add_tensor_info(gguf_name(canonical), shape, dtype, int(np.prod(shape)) * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for i, canonical in enumerate(shapes):
            writer.write_tensor_data(gguf_tensor(checkpoint, canonical))
            progress((i + 1) / len(shapes))
    finally:
        writer.close()


def gguf_name(canonical: str) -> str:
    """Return llama.cpp's name of a tensor of the language model."""
    if canonical in _OTHER_NAMES:
        return _OTHER_NAMES[canonical]
    _, _, layer, inner = canonical.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[inner.removesuffix('.weight')]}.weight"


def gguf_tensor(checkpoint: Checkpoint, canonical: str) -> npt.NDArray[np.floating]:
    """Return a tensor as the F16 file holds it: matrices float16, norms float32, q and k in llama.cpp's order."""
    text = checkpoint.architecture.text
    tensor = checkpoint.tensor(canonical)
    if canonical.endswith("q_proj.weight"):
        tensor = interleave_rope(tensor, text.num_attention_heads)
    elif canonical.endswith("k_proj.weight"):
        tensor = interleave_rope(tensor, text.num_key_value_heads)
    if tensor.ndim == 1:
        return tensor.float().numpy()
    half = tensor.to(torch.float16)
    if not torch.isfinite(half).all():
        raise CheckpointError(f"'{canonical}' has values beyond 65504, which F16 cannot hold; this cannot be exported")
    return half.numpy()


def interleave_rope(weight: torch.Tensor, n_head: int) -> torch.Tensor:
    """Reorder rows [n_head * head_dim, n_in] from transformers' rotary halves to llama.cpp's rotary pairs."""
    n_rows, n_in = weight.shape
    halves = weight.reshape(n_head, 2, n_rows // n_head // 2, n_in)
    return halves.transpose(1, 2).reshape(n_rows, n_in).contiguous()


def _add_architecture(writer: gguf.GGUFWriter, architecture: Architecture, name: str) -> None:
    text = architecture.text
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
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
