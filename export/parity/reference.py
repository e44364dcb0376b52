"""Run a checkpoint in PyTorch layer by layer from disk: transformers' own modules in float32, one layer in memory.

No code of aesedge's runtime is used. All images and sequences go through a layer before the next one is read, so the
checkpoint is read once, and a machine with less memory than the 28 GB of a 7B model in float32 can run it. Weights come
through :class:`.checkpoint.Checkpoint`; the tests compare with transformers reading the checkpoint by itself.

The sequences of one photo follow their common prefix in one row, as the branches of a tree: each position attends to
the prefix and its own branch, and its position is counted from there.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from torch import nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPVisionEmbeddings
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

from .reference_pixels import LlavaPixels
from .torch_threads import OnTorchThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..checkpoint.checkpoint import Checkpoint
    from .forced import ForcedSequence
    from .stages import FloatArray

_HEAD_ROWS = 4096  # of the output matrix at a time: 64 MB in float32 at 7B


class Reference(OnTorchThreads):
    """A checkpoint in PyTorch. ``n_threads`` applies to the whole process until it is closed."""

    def __init__(self, checkpoint: Checkpoint, n_threads: int) -> None:
        self._checkpoint = checkpoint
        self.pixels = LlavaPixels(checkpoint)
        self._text = copy.deepcopy(checkpoint.architecture.text)
        self._vision = copy.deepcopy(checkpoint.architecture.vision)
        for config in (self._text, self._vision):
            config._attn_implementation = "sdpa"  # noqa: SLF001 (transformers' only way to say it to a single layer)
        self.description = (
            f"transformers {transformers.__version__} layer by layer from disk, float32, weights read by aesedge"
        )
        super().__init__(n_threads)

    @torch.inference_mode()
    def encode_images(
        self, pixels: Sequence[FloatArray], progress: Callable[[float], None] | None = None
    ) -> list[FloatArray]:
        """Return the projector's output for images, float32 [n_image_tokens, n_embd] each.

        Args:
            pixels: float32 [1, 3, image_size, image_size] each.
            progress: called with the share done, 0..1.
        """
        vision, prefix = self._vision, "vision_tower."
        embeddings = CLIPVisionEmbeddings(vision)  # on the CPU from the start: it has a buffer beside its weights
        norm = self._filled(
            lambda: nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps), f"{prefix}pre_layrnorm."
        )
        embeddings.load_state_dict(self._weights(embeddings, f"{prefix}embeddings."))
        states = [norm(embeddings(torch.from_numpy(of_one))) for of_one in pixels]
        n_layers = self._checkpoint.architecture.n_tower_layers
        for i in range(n_layers):
            layer = self._filled(partial(CLIPEncoderLayer, vision), f"{prefix}encoder.layers.{i}.")
            states = [layer(state, None, None)[0] for state in states]
            del layer
            if progress is not None:
                progress((i + 1) / (n_layers + 1))
        projector = self._filled(self._make_projector, "multi_modal_projector.")
        rows = [projector(state[0, 1:]).numpy() for state in states]
        if progress is not None:
            progress(1.0)
        return rows

    def _make_projector(self) -> nn.Module:
        width, n_embd = self._vision.hidden_size, self._text.hidden_size
        bias = self._checkpoint.architecture.projector_bias
        parts = {"linear_1": nn.Linear(width, n_embd, bias=bias), "linear_2": nn.Linear(n_embd, n_embd, bias=bias)}
        return _Projector(parts)

    @torch.inference_mode()
    def logits(
        self, sequences: Sequence[ForcedSequence], progress: Callable[[float], None] | None = None
    ) -> list[FloatArray]:
        """Implement :class:`.forced.LogitSource`; consecutive sequences with one image share its positions."""
        trees = [_tree(list(group)) for _, group in itertools.groupby(sequences, key=lambda s: id(s.rows))]
        table = self._checkpoint.tensor("language_model.embed_tokens.weight")
        states = [tree.embed(table) for tree in trees]
        del table
        rotary = LlamaRotaryEmbedding(self._text)
        angles = [rotary(state, tree.positions) for state, tree in zip(states, trees, strict=True)]
        masks = [tree.mask() for tree in trees]
        n_layers = self._text.num_hidden_layers
        for i in range(n_layers):
            layer = self._filled(partial(LlamaDecoderLayer, self._text, i), f"language_model.layers.{i}.")
            states = [
                layer(state, attention_mask=mask, position_embeddings=angle)
                for state, mask, angle in zip(states, masks, angles, strict=True)
            ]
            del layer  # before the next one is read: there is never more than one
            if progress is not None:
                progress((i + 1) / (n_layers + 1))
        norm = self._filled(
            lambda: LlamaRMSNorm(self._text.hidden_size, self._text.rms_norm_eps), "language_model.norm."
        )
        wanted = [norm(state[0, rows]) for state, tree in zip(states, trees, strict=True) for rows in tree.outputs]
        found = self._head(wanted)
        if progress is not None:
            progress(1.0)
        return found

    def _head(self, states: Sequence[torch.Tensor]) -> list[FloatArray]:
        """Return the logits of final states, float32 [n, n_vocab] each, some rows of the output matrix at a time."""
        tied = self._text.tie_word_embeddings
        name = "language_model.embed_tokens.weight" if tied else "lm_head.weight"
        n_vocab = self._text.vocab_size
        found = [np.empty((len(state), n_vocab), np.float32) for state in states]
        for start in range(0, n_vocab, _HEAD_ROWS):
            rows = slice(start, min(start + _HEAD_ROWS, n_vocab))
            part = self._checkpoint.rows(name, rows.start, rows.stop).float().T
            for logits, state in zip(found, states, strict=True):
                logits[:, rows] = (state @ part).numpy()
        return found

    def _filled(self, make: Callable[[], nn.Module], prefix: str) -> nn.Module:
        """Make a module and give it the checkpoint's weights in float32; random ones are never computed."""
        with torch.device("meta"):
            module = make()
        module.load_state_dict(self._weights(module, prefix), assign=True)
        return module.eval()

    def _weights(self, module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
        return {name: self._checkpoint.tensor(f"{prefix}{name}").float() for name in module.state_dict()}


class _Projector(nn.Module):
    """LLaVA-1.5's mlp2x_gelu; transformers' own class takes a configuration of the whole model."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = parts["linear_1"], parts["linear_2"]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear_2(nn.functional.gelu(self.linear_1(features)))


@dataclass(frozen=True, eq=False)
class _Tree:
    """Sequences over one image: their common beginning, then each one's own tokens."""

    before: list[int]
    rows: FloatArray
    texts: list[list[int]]
    """What follows the image in each sequence."""
    outputs: list[slice]
    """Positions in the row, for each sequence, after which logits are wanted."""
    positions: torch.Tensor
    """Place of each position in its own sequence, int64 [1, n]."""
    branches: torch.Tensor
    """Number of the sequence that each position belongs to, from 1 on; 0 for the common beginning; int64 [n]."""

    def embed(self, table: torch.Tensor) -> torch.Tensor:
        """Return what the first layer reads, float32 [1, n, n_embd]."""
        text = torch.tensor([t for text in self.texts for t in text])
        parts = [table[torch.tensor(self.before)].float(), torch.from_numpy(self.rows), table[text].float()]
        return torch.cat(parts)[None]

    def mask(self) -> torch.Tensor:
        """Return what transformers adds to the attention scores, float32 [1, 1, n, n]: 0, or the least number."""
        mine, theirs = self.branches[:, None], self.branches[None, :]
        seen = ((theirs == 0) | (theirs == mine)).tril()
        return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def _tree(sequences: Sequence[ForcedSequence]) -> _Tree:
    first = sequences[0]
    n_image = len(first.before) + len(first.rows)
    texts = [s.after + s.continuation for s in sequences]
    ends = n_image + np.cumsum([len(text) for text in texts])
    positions = [torch.arange(n_image), *(n_image + torch.arange(len(text)) for text in texts)]
    branches = [torch.full((len(p),), i) for i, p in enumerate(positions)]
    return _Tree(
        before=first.before,
        rows=first.rows,
        texts=texts,
        outputs=[slice(int(end) - 1 - len(s.continuation), int(end)) for s, end in zip(sequences, ends, strict=True)],
        positions=torch.cat(positions)[None],
        branches=torch.cat(branches),
    )
