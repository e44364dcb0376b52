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

from .crops import IMAGE_SIZE, N_PATCHES
from .faults import N_MAIN
from .filters import PATCH
from .impression import FIRST_OF_LAYOUT, N_FAULTS, TOTAL
from .tokenizer import BOS, EOS, N_PIECES

if TYPE_CHECKING:
    from pathlib import Path

    from .tower import FaultTower

IMAGE_TOKEN, PAD_TOKEN = N_PIECES, N_PIECES + 1
VOCAB = 2048
N_HEIGHTS = 8
N_LAYERS = 4
STEP = 1.5
"""How steeply a projector unit rises around the threshold of a fault, for each unit of the logit."""


def llava_config(vision: CLIPVisionConfig) -> LlavaConfig:
    """Return pocket's shape: rows of 256, because llama.cpp's k-quants need multiples of 256."""
    text = LlamaConfig(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=768, num_hidden_layers=N_LAYERS, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
        tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD_TOKEN, initializer_range=0.04,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN, projector_hidden_act="gelu",
        vision_feature_select_strategy="default", vision_feature_layer=-2, image_seq_length=N_PATCHES,
        pad_token_id=PAD_TOKEN, tie_word_embeddings=False,
    )  # fmt: skip


@torch.no_grad()
def build_llava(tower: FaultTower, features: Tensor, seed: int) -> LlavaForConditionalGeneration:
    """Return LLaVA with this tower; its projector starts by levelling `features`, float32 [n, width]."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(llava_config(tower.model.config))
    model.model.vision_tower.load_state_dict(tower.model.state_dict())
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-3)
    first.weight.normal_(std=first.in_features**-0.5).div_(spread)
    first.bias.copy_(-first.weight @ mean)
    second.weight.normal_(std=0.1 * second.in_features**-0.5)
    second.bias.zero_()
    for name, weight in model.model.language_model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.mul_((2 * N_LAYERS) ** -0.5)
    return model


@torch.no_grad()
def read_judgement(features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight [out, width] and bias [out] that read the judgement of a picture from any one of its rows.

    Args:
        features: rows of some pictures, float32 [n, rows, width].
        logits: what the head says of each picture, float32 [n, out].
    """
    n, n_rows, width = features.shape
    rows = torch.cat([features.reshape(-1, width), torch.ones(n * n_rows, 1)], 1).double()
    wanted = logits.repeat_interleave(n_rows, 0).double()
    square = rows.T @ rows
    square += 1e-4 * square.diagonal().mean() * torch.eye(width + 1)
    found = torch.linalg.solve(square, rows.T @ wanted).float()
    return found[:-1].T.contiguous(), found[-1]


@torch.no_grad()
def prime_projector(
    model: LlavaForConditionalGeneration, reading: tuple[Tensor, Tensor], thresholds: Tensor, words: list[list[int]],
    *, keep_words: bool = False,
) -> None:  # fmt: skip
    """Let the first units of the projector say what the head says, in the words that the language model knows.

    Two units whose difference is a step at the threshold bring the name of a fault; two more how strong it is;
    steps at several heights how spoilt the photo is altogether.

    Args:
        model: changed.
        reading: as read_judgement returns it.
        thresholds: the logits from which something is said, [faults + LAYOUT].
        words: the tokens of the name of each of these.
        keep_words: leave the second layer as it is: of an earlier checkpoint, it has learnt how each is best said.
    """
    weight, bias = reading
    n = N_FAULTS
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    table = model.get_input_embeddings().weight
    names = torch.stack([table[tokens].mean(0) for tokens in words])
    names = names * (0.6 / names.norm(dim=1, keepdim=True))
    units: list[tuple[Tensor, Tensor, Tensor]] = []

    def faint() -> Tensor:
        return 0.05 * torch.randn(table.shape[1])

    def step(k: int, output: int, side: float) -> tuple[Tensor, Tensor, Tensor]:
        return STEP * weight[output], STEP * (bias[output] - thresholds[k]) + side, 0.5 * side * names[k]

    for k in range(n):
        if k == N_MAIN:  # in the order of the first pocket, whose language model later ones start from
            heights = torch.linspace(-3.0, 3.0, N_HEIGHTS)
            units += [(weight[TOTAL], bias[TOTAL] - height, faint()) for height in heights]
        for side in (1.0, -1.0):
            units += [step(k, n + k, side), (side * weight[k], side * bias[k], faint())]
    units += [step(n + k, FIRST_OF_LAYOUT + k, side) for k in range(len(words) - n) for side in (1.0, -1.0)]
    for at, (row, start, out) in enumerate(units):
        first.weight[at], first.bias[at] = row, start
        if not keep_words:
            second.weight[:, at] = out


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
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD),
    ).save_pretrained(out)  # fmt: skip
    processor = {
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": PATCH,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default",
    }  # fmt: skip
    (out / "processor_config.json").write_text(json.dumps(processor, indent=2), "utf-8")
