"""Put tower, projector and language model together as one Hugging Face LLaVA checkpoint, and read it back.

It knows shapes and files; it does not know how the weights come about.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import torch
from aesedge_export.checkpoint.checkpoint import CLIP_MEAN, CLIP_STD
from torch import Tensor
from transformers import (
    AddedToken,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
)  # fmt: skip

from .tokenizer import BOS, EOS, N_PIECES

if TYPE_CHECKING:
    from pathlib import Path

    from .tower import FaultTower

IMAGE_TOKEN, PAD_TOKEN = N_PIECES, N_PIECES + 1
VOCAB = 2048
N_IMAGE = 196
N_LAYERS = 4


def llava_config(vision: CLIPVisionConfig) -> LlavaConfig:
    """Return pocket's shape: rows of 256, because llama.cpp's k-quants need multiples of 256."""
    text = LlamaConfig(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=768, num_hidden_layers=N_LAYERS, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
        tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD_TOKEN, initializer_range=0.04,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN, projector_hidden_act="gelu",
        vision_feature_select_strategy="default", vision_feature_layer=-2, image_seq_length=N_IMAGE,
        pad_token_id=PAD_TOKEN, tie_word_embeddings=False,
    )  # fmt: skip


def build_llava(tower: FaultTower, features: Tensor, seed: int) -> LlavaForConditionalGeneration:
    """Return LLaVA with this tower; its projector starts by levelling `features`, float32 [n, width]."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(llava_config(tower.model.config))
    model.model.vision_tower.load_state_dict(tower.model.state_dict())
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-3)
    with torch.no_grad():
        first.weight.normal_(std=first.in_features**-0.5).div_(spread)
        first.bias.copy_(-first.weight @ mean)
        second.weight.normal_(std=0.1 * second.in_features**-0.5)
        second.bias.zero_()
        for name, weight in model.model.language_model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_((2 * N_LAYERS) ** -0.5)
    return model


def save_checkpoint(model: LlavaForConditionalGeneration, tokenizer_model: Path, out: Path) -> None:
    """Write the folder that LlavaForConditionalGeneration.from_pretrained and the exporter read."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out, safe_serialization=True)
    if tokenizer_model.resolve() != (out / "tokenizer.model").resolve():
        shutil.copyfile(tokenizer_model, out / "tokenizer.model")
    tokenizer = LlamaTokenizer(str(out / "tokenizer.model"), legacy=True, add_bos_token=True, add_eos_token=False)
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False),
                          AddedToken("<pad>", special=True, normalized=False)], special_tokens=True)  # fmt: skip
    tokenizer.pad_token = "<pad>"  # noqa: S105 (a token of text, no secret)
    if tokenizer.convert_tokens_to_ids("<image>") != IMAGE_TOKEN:
        raise ValueError(f"<image> is token {tokenizer.convert_tokens_to_ids('<image>')}, expected {IMAGE_TOKEN}")
    tokenizer.save_pretrained(out)
    CLIPImageProcessor(
        size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}, image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_STD),
    ).save_pretrained(out)  # fmt: skip
    processor = {
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 16,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default",
    }  # fmt: skip
    (out / "processor_config.json").write_text(json.dumps(processor, indent=2), "utf-8")
