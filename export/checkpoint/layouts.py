"""Map each checkpoint layout's tensor names to canonical ones, and list the tensors of a LLaVA-1.5.

Everything behind this module uses one spelling, close to transformers' own:
``language_model.*``, ``lm_head.weight``, ``multi_modal_projector.linear_{1,2}.*``, ``vision_tower.*``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from aesedge.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from transformers import CLIPVisionConfig, LlamaConfig

HF = "hf-llava"
ORIGINAL = "original-llava"
LORA = "lora"
"""Merged onto a base while it is read; both are spelled in one of the other ways."""
CLIP = "clip"

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]

_RULES = {
    # transformers <= 4.51 and llava-hf on disk; 4.52 and later ("model." in front); 5.6 and later (no "vision_model.").
    HF: [
        (r"^(?:language_model\.)?lm_head\.", "lm_head."),
        (r"^(?:model\.)?language_model\.(?:model\.)?", "language_model."),
        (r"^(?:model\.)?multi_modal_projector\.", "multi_modal_projector."),
        (r"^(?:model\.)?vision_tower\.(?:vision_model\.)?", "vision_tower."),
    ],
    # haotian-liu/LLaVA: mm_projector is nn.Sequential(Linear, GELU, Linear). A plain Llama is spelled as its text half.
    ORIGINAL: [
        (r"^(?:model\.)?mm_projector\.0\.", "multi_modal_projector.linear_1."),
        (r"^(?:model\.)?mm_projector\.2\.", "multi_modal_projector.linear_2."),
        (r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?", "vision_tower."),
        (r"^lm_head\.", "lm_head."),
        (r"^model\.(?=embed_tokens\.|layers\.|norm\.)", "language_model."),
    ],
    # openai/clip-*: the text half is not needed. A tower alone, by transformers from 5.6 on, has no "vision_model.".
    CLIP: [
        (r"^vision_model\.", "vision_tower."),
        (r"^(?=embeddings\.(?:class|patch|position)_embedding|pre_layrnorm\.|encoder\.layers\.)", "vision_tower."),
    ],
}

_HF_NAMES = re.compile(r"(^|\.)(multi_modal_projector|language_model)\.")

_DERIVED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")
"""Buffers that old files carry and that follow from the configuration."""


def recognise(names: Iterable[str]) -> str:
    """Tell by tensors' names whether transformers' LLaVA spells them, or the original LLaVA and plain Llama."""
    return HF if any(_HF_NAMES.search(name) for name in names) else ORIGINAL


def canonical_names(names: Iterable[str], layout: str) -> dict[str, str]:
    """Map our spelling of each tensor to the file's.

    Raises:
        CheckpointError: a tensor does not belong to a LLaVA-1.5, or two spell the same one.
    """
    found: dict[str, str] = {}
    for name in names:
        if _DERIVED.search(name):
            continue
        canonical = canonical_name(name, layout)
        if canonical is None:
            if layout == CLIP:
                continue
            raise CheckpointError(f"tensor '{name}' does not belong to a LLaVA-1.5 model; this cannot be exported")
        if canonical in found:
            raise CheckpointError(f"tensors '{found[canonical]}' and '{name}' are the same weight; keep one of them")
        found[canonical] = name
    return found


def canonical_tensors(where: Path, held: Mapping[str, T], layout: str) -> dict[str, T]:
    """Return what a folder or a file holds, by our names.

    Raises:
        CheckpointError: as for :func:`canonical_names`; ``where`` is named.
    """
    try:
        names = canonical_names(held, layout)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    return {canonical: held[spelled] for canonical, spelled in names.items()}


def canonical_name(name: str, layout: str) -> str | None:
    """Return our spelling of one tensor; None if it does not belong to a LLaVA-1.5."""
    for pattern, replacement in _RULES[layout]:
        changed, n_changed = re.subn(pattern, replacement, name)
        if n_changed:
            return changed
    return None


def language_shapes(text: LlamaConfig) -> Shapes:
    """Return name and shape of every tensor of the language model, in the order in which they are written."""
    width, inner = text.hidden_size, text.intermediate_size
    q_width = text.num_attention_heads * text.head_dim
    kv_width = text.num_key_value_heads * text.head_dim
    shapes: Shapes = {"language_model.embed_tokens.weight": (text.vocab_size, width)}
    for i in range(text.num_hidden_layers):
        layer = f"language_model.layers.{i}."
        shapes[f"{layer}input_layernorm.weight"] = (width,)
        shapes[f"{layer}self_attn.q_proj.weight"] = (q_width, width)
        shapes[f"{layer}self_attn.k_proj.weight"] = (kv_width, width)
        shapes[f"{layer}self_attn.v_proj.weight"] = (kv_width, width)
        shapes[f"{layer}self_attn.o_proj.weight"] = (width, q_width)
        shapes[f"{layer}post_attention_layernorm.weight"] = (width,)
        shapes[f"{layer}mlp.gate_proj.weight"] = (inner, width)
        shapes[f"{layer}mlp.up_proj.weight"] = (inner, width)
        shapes[f"{layer}mlp.down_proj.weight"] = (width, inner)
    shapes["language_model.norm.weight"] = (width,)
    if not text.tie_word_embeddings:
        shapes["lm_head.weight"] = (text.vocab_size, width)
    return shapes


def projector_shapes(text: LlamaConfig, vision: CLIPVisionConfig, *, bias: bool) -> Shapes:
    """Return name and shape of every tensor of the projector."""
    shapes: Shapes = {}
    for linear, n_in in (("linear_1", vision.hidden_size), ("linear_2", text.hidden_size)):
        shapes[f"multi_modal_projector.{linear}.weight"] = (text.hidden_size, n_in)
        if bias:
            shapes[f"multi_modal_projector.{linear}.bias"] = (text.hidden_size,)
    return shapes


def tower_shapes(vision: CLIPVisionConfig, n_layers: int) -> Shapes:
    """Return name and shape of the vision tower's tensors up to its first ``n_layers`` layers."""
    width, patch = vision.hidden_size, vision.patch_size
    n_positions = (vision.image_size // patch) ** 2 + 1
    shapes: Shapes = {
        "vision_tower.embeddings.class_embedding": (width,),
        "vision_tower.embeddings.patch_embedding.weight": (width, vision.num_channels, patch, patch),
        "vision_tower.embeddings.position_embedding.weight": (n_positions, width),
        "vision_tower.pre_layrnorm.weight": (width,),
        "vision_tower.pre_layrnorm.bias": (width,),
    }
    linears = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    linears |= {"mlp.fc1": (vision.intermediate_size, width), "mlp.fc2": (width, vision.intermediate_size)}
    for i in range(n_layers):
        layer = f"vision_tower.encoder.layers.{i}."
        for name, shape in linears.items():
            shapes[f"{layer}{name}.weight"] = shape
            shapes[f"{layer}{name}.bias"] = shape[:1]
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}{norm}.weight"] = shapes[f"{layer}{norm}.bias"] = (width,)
    return shapes
