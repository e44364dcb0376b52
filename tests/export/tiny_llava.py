"""Tiny LLaVA checkpoints with random weights, in every layout, each made in well under a second.

Hidden size 256, so that K-quants apply. The weights are scaled so that logits are spread and greedy text wanders.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import sentencepiece
import torch
from aesedge_export.questions import AESTHETIC_QUESTION, ATTRIBUTE_QUESTIONS, default_prompt
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE_SIZE, PATCH_SIZE = 56, 14
N_IMAGE_TOKENS = 16
N_EMBD = 256
# Strength at which greedy text depends on the image and yet has no ties: the likeliest token leads by 1 % to 2 % of the
# spread of the logits, ten times F16's noise, at each of 32 steps.
SUCCESSOR = 0.09
CLIP_NAME = "openai/clip-vit-tiny-patch14-56"

TEXT = {
    "hidden_size": N_EMBD,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.05,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Head width 64, as in OpenAI's towers: only then can a tower be recognised by its weights alone.
VISION = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "projection_dim": 32,
}


def train_tokenizer(path: Path, **options: Any) -> int:
    """Train a small sentencepiece model of Llama's kind; return how many tokens it has."""
    lines = [
        AESTHETIC_QUESTION,
        *ATTRIBUTE_QUESTIONS.values(),
        default_prompt().critique,
        "The light is soft and calm.",
    ]
    settings = {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "character_coverage": 1.0,
        "vocab_size": 400,
        "hard_vocab_limit": False,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "minloglevel": 2,
    }
    prefix = path.with_suffix("")
    trainer = sentencepiece.SentencePieceTrainer
    trainer.train(sentence_iterator=iter(lines * 20), model_prefix=str(prefix), **{**settings, **options})
    prefix.with_suffix(".vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return int(processor.get_piece_size())


def write_hf(folder: Path, *, seed: int = 1, padded: bool = True, **text: Any) -> Path:
    """Write a checkpoint as the installed transformers saves it.

    Its vocabulary has two added tokens and is padded, or is the tokenizer's as it is, as in the original LLaVA-1.5.
    """
    folder.mkdir(parents=True)
    n_pieces = train_tokenizer(folder / "tokenizer.model")
    n_rows = -(-(n_pieces + 2) // 64) * 64 if padded else n_pieces
    config = LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": n_rows, **TEXT, **text},
        vision_config={"model_type": "clip_vision_model", **VISION},
        image_token_index=n_pieces,
        pad_token_id=n_pieces + 1 if padded else None,
        image_seq_length=N_IMAGE_TOKENS,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    _spread(model)
    # Half precision, as published checkpoints are: then F16 in the GGUF file is exact.
    model.half().save_pretrained(folder)
    if padded:
        added = {"<image>": n_pieces, "<pad>": n_pieces + 1}
        (folder / "added_tokens.json").write_text(json.dumps(added))
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Give every tensor values that matter: norms off 1, biases off 0, a tower that tells images apart."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or "layrnorm" in name:
            parameter.data += 0.2 * noise
        elif name.endswith("bias"):
            parameter.data += 0.05 * noise
        elif "vision_tower" in name or "projector" in name:
            parameter.data = noise * parameter.shape[-1] ** -0.5
    _prefer_successors(model)


def _prefer_successors(model: torch.nn.Module) -> None:
    """Let every token make another one likely, as in trained models; random logits alone have ties within noise."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    order = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(11))
    embedding.data *= 8
    if head is not embedding:
        head.data += SUCCESSOR * embedding.data[order]


def respell(source: Path, target: Path, rename: Callable[[str], str]) -> Path:
    """Copy a checkpoint with other tensor names."""
    shutil.copytree(source, target)
    tensors = load_file(source / "model.safetensors")
    save_file({rename(middle_spelling(name)): tensor for name, tensor in tensors.items()}, target / "model.safetensors")
    return target


def middle_spelling(name: str) -> str:
    """Spell as transformers 4.52 to 5.5 has it in memory; 4.57 still writes the old spelling."""
    name = re.sub(r"^language_model\.lm_head\.", "lm_head.", name)
    name = re.sub(r"^language_model\.model\.", "model.language_model.", name)
    return re.sub(r"^(?=vision_tower|multi_modal_projector)", "model.", name)


def old_spelling(name: str) -> str:
    """Spell as transformers up to 4.51 does, and llava-hf on disk."""
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
    return re.sub(r"^model\.(?=vision_tower|multi_modal_projector)", "", name)


def new_spelling(name: str) -> str:
    """Spell as transformers from 5.6 on does."""
    return name.replace("vision_tower.vision_model.", "vision_tower.")


def original_spelling(name: str) -> str:
    """Spell as haotian-liu/LLaVA does."""
    name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.")
    name = name.replace("model.multi_modal_projector.linear_1.", "model.mm_projector.0.")
    name = name.replace("model.multi_modal_projector.linear_2.", "model.mm_projector.2.")
    return name.replace("model.language_model.", "model.")


def write_original(source: Path, target: Path) -> Path:
    """Rewrite a Hugging Face checkpoint of ours in the original layout, the tower inside."""
    respell(source, target, original_spelling)
    config = json.loads((source / "config.json").read_bytes())
    original = {
        **LlamaConfig(**config["text_config"]).to_dict(),
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        "pad_token_id": config.get("pad_token_id"),
        "mm_vision_tower": CLIP_NAME,
        "mm_hidden_size": VISION["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "flat",
        "mm_use_im_start_end": False,
        "image_aspect_ratio": "pad",
    }
    (target / "config.json").write_text(json.dumps(original))
    (target / "generation_config.json").unlink()
    return target


def split_off_tower(original: Path, clip: Path) -> Path:
    """Move the tower of an original-layout checkpoint into a CLIP folder, as OpenAI publishes it."""
    clip.mkdir()
    path = original / "model.safetensors"
    tensors = load_file(path)
    prefix = "model.vision_tower.vision_tower."
    tower = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    save_file(tensors, path)
    text = {"text_model.final_layer_norm.weight": torch.ones(4), "logit_scale": torch.ones(())}
    save_file({**tower, **text}, clip / "model.safetensors")
    config = {"model_type": "clip", "vision_config": CLIPVisionConfig(**VISION).to_dict()}
    (clip / "config.json").write_text(json.dumps(config))
    return clip


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of a checkpoint's config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
