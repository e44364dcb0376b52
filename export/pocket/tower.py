"""Build the CLIP-shaped tower and start it where it can see faults: a whitened cosine basis and its energies.

It knows the tower's weights and clean pixels; it does not know how either is trained or stored.
"""

from __future__ import annotations

import math

import torch
from aesedge_export.checkpoint.checkpoint import CLIP_MEAN, CLIP_STD
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

PATCH = 16
LUMA, RED_BLUE, GREEN = (0.299, 0.587, 0.114), (0.5, 0.0, -0.5), (-0.5, 1.0, -0.5)
N_CONSTANT = 4
"""Channels that hold a constant, so that the layer norm behind the embeddings does not lose absolute energy."""


def tower_config(width: int, n_layers: int) -> CLIPVisionConfig:
    """Return the shape of a tower; its last layer is never used (LLaVA reads hidden state -2)."""
    return CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=n_layers, num_attention_heads=width // 64,
        image_size=224, patch_size=PATCH, hidden_act="quick_gelu", projection_dim=width,
    )  # fmt: skip


def normalise(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, 224, 224, 3] into CLIP's pixel values, float32 [n, 3, 224, 224]."""
    mean, std = torch.tensor(CLIP_MEAN) * 255, torch.tensor(CLIP_STD) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def cosine_basis() -> Tensor:
    """Return the 2-D DCT-II basis, float32 [16, 16, 16, 16] (vertical, horizontal frequency, y, x)."""
    k = torch.arange(PATCH).float()
    rows = torch.cos(math.pi / PATCH * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / PATCH)
    rows[0] /= math.sqrt(2)
    return torch.einsum("uy,vx->uvyx", rows, rows)


def cosine_filters(n_filters: int) -> tuple[Tensor, Tensor]:
    """Return colour DCT filters, float32 [n_filters, 3, 16, 16], and how loud each starts.

    Low frequencies are all there, high ones in a checkerboard; mean light and colour start loudest. The factor
    CLIP_STD undoes the scale of the normalisation.
    """
    basis = cosine_basis()
    cells = [(u, v) for u in range(PATCH) for v in range(PATCH)]
    low = sorted((c for c in cells if max(c) < 7), key=lambda c: (c[0] + c[1], c))
    high = [(u, v) for u, v in cells if max(u, v) >= 7 and (u + v) % 2 == 0]
    chosen = [(LUMA, c) for c in low]
    for colour in (RED_BLUE, GREEN):
        chosen += [(colour, c) for c in [*low[:8], (4, 4), (8, 0), (0, 8), (7, 7), (10, 10)]]
    chosen += [(LUMA, c) for c in high]
    filters = [torch.tensor(colour)[:, None, None] * basis[u, v] for colour, (u, v) in chosen[:n_filters]]
    loudness = torch.tensor([1 + 2.5 * math.exp(-(u + v) / 1.5) for _, (u, v) in chosen[:n_filters]])
    return torch.stack(filters) * torch.tensor(CLIP_STD)[None, :, None, None], loudness


@torch.no_grad()
def start_tower(model: CLIPVisionModel, clean: Tensor) -> None:
    """Set the starting weights from clean pixel values, float32 [n, 3, 224, 224].

    Each cosine filter is divided by the spread of its coefficient over clean photographs, so that the faint
    high frequencies (where blur, noise and compression show) are as loud as the rest. The first layer's MLP
    starts with pairs of units +x and -x: their sum is the energy |x| of one coefficient.
    """
    vision = model.vision_model
    embeddings, width = vision.embeddings, model.config.hidden_size
    filters, loudness = cosine_filters(width - N_CONSTANT)
    n = len(filters)
    spread = nn.functional.conv2d(clean, filters, stride=PATCH).float().std(dim=(0, 2, 3))
    weight = embeddings.patch_embedding.weight
    weight.normal_(std=0.002)
    weight[:n] = filters * (loudness / spread.clamp(min=1e-3))[:, None, None, None]
    embeddings.position_embedding.weight.normal_(std=0.05)
    embeddings.position_embedding.weight[:, -N_CONSTANT:] = 3.0
    embeddings.class_embedding.normal_(std=0.5)
    mlp = vision.encoder.layers[0].mlp
    gain = 2.0
    pairs = min(n, mlp.fc1.out_features // 2)
    unit = torch.eye(width)[:pairs] * gain
    mlp.fc1.weight[: 2 * pairs] = torch.cat([unit, -unit]) + 0.02 * torch.randn(2 * pairs, width)
    mlp.fc1.bias.zero_()
    spread_out = torch.randn(width, pairs) * (0.3 / math.sqrt(pairs))
    mlp.fc2.weight[:, : 2 * pairs] = torch.cat([spread_out, spread_out], 1)
    mlp.fc2.bias.zero_()


class FaultTower(nn.Module):
    """The tower with two heads that read fault strengths, from the mean of all patches and from each patch."""

    def __init__(self, model: CLIPVisionModel, n_faults: int) -> None:
        super().__init__()
        self.model = model
        width = model.config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.pooled = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, n_faults + 1))
        self.local = nn.Linear(width, n_faults)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return hidden_states[-2] without [CLS], [n, 196, width]: what LLaVA hands to its projector."""
        vision = self.model.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(pixel_values))
        for layer in vision.encoder.layers[:-1]:
            hidden = layer(hidden, attention_mask=None, causal_attention_mask=None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return hidden[:, 1:]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of strengths and of the total [n, faults + 1], and of strengths per patch [n, 196, faults]."""
        patches = self.norm(self.features(pixel_values))
        pooled = torch.cat([patches.mean(1), patches.amax(1)], -1)
        return self.pooled(pooled), self.local(patches)
