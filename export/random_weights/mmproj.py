"""Write a random tower and projector as the mmproj file that llama.cpp takes.

The tensors are called as llama.cpp's present converter calls them. The file names the layer whose output is read:
without that llama.cpp runs one layer less than is stored, and a comparison of speed would not be fair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

from ..llama_cpp_pair.mmproj import FEATURE_LAYER_KEY, PROJECTOR, PROJECTOR_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .tower import RandomTower

MMPROJ_NAME = "mmproj-f16.gguf"

_SPELLED = {
    "vision_tower.encoder.layers.": "v.blk.",
    "vision_tower.embeddings.class_embedding": "v.class_embd",
    "vision_tower.embeddings.patch_embedding": "v.patch_embd",
    "vision_tower.embeddings.position_embedding": "v.position_embd",
    "vision_tower.pre_layrnorm": "v.pre_ln",
    "multi_modal_projector.linear_1": "mm.0",
    "multi_modal_projector.linear_2": "mm.2",
    ".mlp.fc1": ".ffn_up",
    ".mlp.fc2": ".ffn_down",
    ".layer_norm": ".ln",
    ".self_attn.": ".attn_",
    "_proj.": ".",
}
"""Parts of our names and llama.cpp's, to be replaced in this order."""


def mmproj_bytes(tower: RandomTower) -> int:
    """Return about how large the file will be."""
    return 2 * tower.n_parameters + (1 << 20)


def write_mmproj(tower: RandomTower, path: Path, *, progress: Callable[[float], None] | None = None) -> None:
    """Write matrices in half precision and vectors in float32, one tensor in memory at a time.

    Args:
        tower: what is written.
        path: the file.
        progress: called with the share of the tensors that are written.
    """
    shapes = tower.shape.tensor_shapes()
    writer = gguf.GGUFWriter(path, "clip")
    try:
        _add_keys(writer, tower)
        for name, shape in shapes.items():
            kind = np.dtype(np.float16 if len(shape) > 1 else np.float32)
            writer.add_tensor_info(_spelled(name), shape, kind, int(np.prod(shape)) * kind.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for i, (name, shape) in enumerate(shapes.items()):
            values = tower.tensor(name)
            writer.write_tensor_data(values.astype(np.float16) if len(shape) > 1 else values)
            if progress is not None:
                progress((i + 1) / len(shapes))
    finally:
        writer.close()


def _add_keys(writer: gguf.GGUFWriter, tower: RandomTower) -> None:
    shape, image = tower.shape, tower.image
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for key, is_true in (
        ("clip.has_text_encoder", False),
        ("clip.has_vision_encoder", True),
        ("clip.has_llava_projector", True),
        ("clip.use_gelu", False),
    ):
        writer.add_bool(key, is_true)
    writer.add_string(PROJECTOR_KEY, PROJECTOR)
    for key, number in (
        ("image_size", shape.image_size),
        ("patch_size", shape.patch_size),
        ("embedding_length", shape.hidden),
        ("feed_forward_length", shape.intermediate),
        ("projection_dim", shape.n_embd),
        ("attention.head_count", shape.n_heads),
        ("block_count", shape.n_layers),
    ):
        writer.add_uint32(f"clip.vision.{key}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", shape.layer_norm_eps)
    writer.add_array(FEATURE_LAYER_KEY, [shape.n_layers])
    writer.add_array("clip.vision.image_mean", list(image.mean))
    writer.add_array("clip.vision.image_std", list(image.std))


def _spelled(canonical: str) -> str:
    """Return llama.cpp's name of a tensor."""
    for ours, theirs in _SPELLED.items():
        canonical = canonical.replace(ours, theirs)
    return canonical
