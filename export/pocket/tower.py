"""Build the CLIP-shaped tower and start it where it can see faults: designed filters and their energies.

It knows the tower's weights and what the filters read; it does not know how either is trained or stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from aesedge_export.checkpoint.checkpoint import CLIP_MEAN, CLIP_STD
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from .crops import IMAGE_SIZE
from .faults import FAULTS
from .filters import N_FILTERS, N_LINEAR, PATCH
from .scenes import LAYOUT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

N_CONSTANT = 4
"""Channels that hold a constant, so that the layer norms behind the embeddings do not lose absolute energy."""
WIDTH = N_FILTERS + N_CONSTANT
N_LAYERS = 4
"""The last one is never used: LLaVA reads hidden state -2."""
ENERGY_GAIN = 3.0
PLACE_GAIN = 2.0
"""How far the constants differ from place to place."""
DROPPED = 0.1
"""Share of the filters, and of what the head reads, that is left out at random in training."""
N_OUT = 2 * len(FAULTS) + 1 + len(LAYOUT)
"""What the head says: the strength of each fault, whether it is there, how spoilt the photo is altogether, and what
it sees of the composition."""


def tower_config() -> CLIPVisionConfig:
    """Return the shape of the tower."""
    return CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=N_LAYERS, num_attention_heads=WIDTH // 64,
        image_size=IMAGE_SIZE, patch_size=PATCH, hidden_act="quick_gelu", projection_dim=WIDTH,
    )  # fmt: skip


def normalise(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, size, size, 3] into CLIP's pixel values, float32 [n, 3, size, size]."""
    mean, std = torch.tensor(CLIP_MEAN) * 255, torch.tensor(CLIP_STD) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def coordinates() -> Tensor:
    """Return where each patch is: x, y, distance from the middle (squared), nearness of the frame.

    Float32 [patches, N_CONSTANT], each about PLACE_GAIN in size and 0 on the whole. Learnt from nothing, places come
    much later than what the filters read, and with them all that depends on the place in the picture: vignetting,
    converging verticals, composition.
    """
    side = IMAGE_SIZE // PATCH
    along = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(along, along, indexing="ij")
    found = torch.stack([x, y, x * x + y * y, torch.maximum(x.abs(), y.abs())], -1).reshape(-1, N_CONSTANT)
    found -= found.mean(0)
    return PLACE_GAIN * found / found.std(0)


@torch.no_grad()
def start_tower(model: CLIPVisionModel, filters: npt.NDArray[np.float32]) -> None:
    """Set the starting weights; `filters` as crops.loud_filters gives them.

    The patch embedding is the filters and stays so. The first MLP turns each answer x into about |x|: of the units
    of a pair, quick_gelu(x) and quick_gelu(-x), twice the second is added to x. The second attention starts as the
    mean over the picture.
    """
    vision = model.vision_model
    embeddings = vision.embeddings
    gain = torch.full((N_FILTERS,), ENERGY_GAIN)
    gain[:N_LINEAR] = 1.0
    embeddings.patch_embedding.weight.zero_()
    # The normalisation divides by CLIP_STD, the filters were made for plain RGB.
    undo = torch.tensor(CLIP_STD)[None, :, None, None]
    embeddings.patch_embedding.weight[:N_FILTERS] = torch.from_numpy(filters) * undo * gain[:, None, None, None]
    embeddings.patch_embedding.weight.requires_grad_(requires_grad=False)
    constant = torch.tensor([8.0, -8.0, 8.0, -8.0])
    embeddings.position_embedding.weight.normal_(std=0.05)
    embeddings.position_embedding.weight[:, -N_CONSTANT:] = constant
    embeddings.position_embedding.weight[1:, -N_CONSTANT:] += coordinates()
    embeddings.class_embedding.normal_(std=0.3)
    embeddings.class_embedding[-N_CONSTANT:] = 0
    first, *later = vision.encoder.layers
    sharpness = 4.0
    units = torch.zeros(4 * WIDTH, WIDTH)
    for sign, at in ((-1, 0), (1, N_FILTERS)):
        units[at : at + N_FILTERS, :N_FILTERS] = sign * sharpness * torch.eye(N_FILTERS)
    rest = 2 * N_FILTERS
    chosen = torch.arange(4 * WIDTH - rest) % N_FILTERS
    signs = 1 - 2 * ((torch.arange(4 * WIDTH - rest) // N_FILTERS) % 2).float()
    units[rest + torch.arange(len(chosen)), chosen] = signs * sharpness
    first.mlp.fc1.weight.copy_(units + 0.01 * torch.randn_like(units))
    first.mlp.fc1.bias.zero_()
    first.mlp.fc1.bias[rest:] = -3.0  # only what is loud
    first.mlp.fc2.weight.normal_(std=0.01)
    energy = torch.arange(N_LINEAR, N_FILTERS)
    first.mlp.fc2.weight[energy, energy] += 2 / sharpness
    first.mlp.fc2.bias.zero_()
    first.self_attn.out_proj.weight.mul_(0.1)
    for layer in later:
        attention = layer.self_attn
        attention.q_proj.weight.mul_(0.5)
        attention.v_proj.weight.copy_(torch.eye(WIDTH))
        nn.init.orthogonal_(attention.out_proj.weight, gain=0.7)
        layer.mlp.fc1.weight.normal_(std=1.0 / math.sqrt(WIDTH))
        layer.mlp.fc2.weight.normal_(std=0.4 / math.sqrt(4 * WIDTH))


class FaultTower(nn.Module):
    """The tower with a head that reads faults from every patch; what the head says of the picture is the mean.

    So each row that the language model gets holds the judgement of the whole picture, whatever rows are left out.
    """

    def __init__(self, model: CLIPVisionModel) -> None:
        super().__init__()
        self.model = model
        self.norm = nn.LayerNorm(WIDTH)
        self.drop = nn.Dropout(DROPPED)
        self.head = nn.Linear(WIDTH, N_OUT)
        gain = torch.full((WIDTH,), ENERGY_GAIN)
        gain[:N_LINEAR] = 1.0
        self.register_buffer("gain", gain, persistent=False)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return hidden_states[-2] without [CLS], [n, patches, width]: what LLaVA hands to its projector."""
        return self.layers(self.model.vision_model.embeddings(pixel_values))

    def features_of_rows(self, rows: Tensor, patches: Tensor | None = None) -> Tensor:
        """Return the same from what the filters read, float32 [n, patches, filters], of all patches or of some."""
        embeddings = self.model.vision_model.embeddings
        if self.training:  # whole filters are left out, so that nothing rests on a few of them
            rows = rows * (torch.rand(len(rows), 1, N_FILTERS, device=rows.device) >= DROPPED)
        wide = nn.functional.pad(rows, (0, N_CONSTANT)) * self.gain
        first = embeddings.class_embedding.expand(len(rows), 1, -1)
        place = embeddings.position_embedding.weight
        if patches is not None:
            place = torch.cat([place[:1], place[1 + patches]])
        return self.layers(torch.cat([first, wide], 1) + place)

    def layers(self, embedded: Tensor) -> Tensor:
        """Run all layers but the last."""
        vision = self.model.vision_model
        hidden = vision.pre_layrnorm(embedded)
        for layer in vision.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None, causal_attention_mask=None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return hidden[:, 1:]

    def judge(self, features: Tensor) -> Tensor:
        """Return the head's logits per patch, [n, patches, N_OUT]."""
        return self.head(self.drop(self.norm(features)))

    def forward(self, rows: Tensor, patches: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits of the picture [n, N_OUT] and of each patch [n, patches, N_OUT]."""
        local = self.judge(self.features_of_rows(rows, patches))
        return local.mean(1), local
