"""Export the vision tower and projector as one ONNX graph with optimum, and validate it against PyTorch.

Input ``pixel_values`` float32 [batch, 3, image_size, image_size]; output ``image_embeddings`` float32
[batch, n_image_tokens, n_embd]. Layers after the selected one, the last layer norm and the class token's row are
left out.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import onnx
import torch
from optimum.exporters.onnx import OnnxConfig, export, validate_model_outputs
from optimum.utils import DummyVisionInputGenerator
from optimum.utils.normalized_config import NormalizedVisionConfig
from torch import nn
from transformers import CLIPVisionModel

from aesedge.errors import CheckpointError, ParityError
from aesedge.system.byte_sizes import size_text
from aesedge.vision.tower import INPUT, OUTPUT

from .onnx_file import read_model, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..checkpoint.checkpoint import Checkpoint

OPSET = 17
_MAX_BYTES = 2**31 - 2**20  # protobuf's limit of one file, less room for the graph itself

# Random pixels, fp32 on both sides. Embeddings of a trained ViT-L reach some tens, so 1e-3 is about 1e-4 of the
# largest; the parity stage on photos has the tolerance that counts.
VALIDATION_ATOL = 1e-3


class ProjectedTower(nn.Module):
    """CLIP up to the selected layer, then the projector."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        architecture = checkpoint.architecture
        self.config = copy.deepcopy(architecture.vision)
        self.config.num_hidden_layers = architecture.n_tower_layers
        # Eager attention is MatMul, Softmax, MatMul in the graph: what ONNX Runtime knows to fuse.
        vision = CLIPVisionModel._from_config(self.config, attn_implementation="eager").vision_model  # noqa: SLF001
        self.embeddings, self.pre_layrnorm, self.encoder = vision.embeddings, vision.pre_layrnorm, vision.encoder
        width, n_embd = self.config.hidden_size, architecture.text.hidden_size
        bias = architecture.projector_bias
        self.projector = nn.Sequential(
            OrderedDict(
                linear_1=nn.Linear(width, n_embd, bias=bias),
                gelu=nn.GELU(),
                linear_2=nn.Linear(n_embd, n_embd, bias=bias),
            )
        )
        self._load(checkpoint)

    def _load(self, checkpoint: Checkpoint) -> None:
        parts = {"embeddings": "vision_tower.", "pre_layrnorm": "vision_tower.", "encoder": "vision_tower."}
        parts["projector"] = "multi_modal_projector"
        for name, parameter in self.named_parameters():
            part, rest = name.split(".", 1)
            canonical = f"{parts[part]}.{rest}" if part == "projector" else f"{parts[part]}{name}"
            tensor = checkpoint.tensor(canonical)
            if tensor.shape != parameter.shape:
                raise CheckpointError(
                    f"{checkpoint.folder}: '{canonical}' is {list(tensor.shape)}, the tower has {list(parameter.shape)}"
                )
            parameter.data.copy_(tensor)
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``image_embeddings``, float32 [batch, n_image_tokens, n_embd]."""
        hidden = self.pre_layrnorm(self.embeddings(pixel_values))
        hidden = self.encoder(inputs_embeds=hidden).last_hidden_state
        return {OUTPUT: self.projector(hidden[:, 1:])}


class VisionTowerOnnxConfig(OnnxConfig):
    """What optimum needs to know about a :class:`ProjectedTower`."""

    NORMALIZED_CONFIG_CLASS = NormalizedVisionConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyVisionInputGenerator,)
    DEFAULT_ONNX_OPSET = OPSET
    ATOL_FOR_VALIDATION = VALIDATION_ATOL
    MIN_TORCH_VERSION: ClassVar = OnnxConfig.MIN_TORCH_VERSION

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Input names and their dynamic axes."""
        return {INPUT: {0: "batch"}}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Output names and their dynamic axes."""
        return {OUTPUT: {0: "batch"}}


def write_fp32(checkpoint: Checkpoint, path: Path) -> None:
    """Export the vision graph in float32 and validate it against PyTorch on random pixels.

    Raises:
        CheckpointError: the graph is larger than one ONNX file can be.
        ParityError: the graph's output differs from PyTorch's.
    """
    tower = ProjectedTower(checkpoint)
    n_bytes = sum(p.numel() * 4 for p in tower.parameters())
    if n_bytes > _MAX_BYTES:
        raise CheckpointError(
            f"{checkpoint.folder}: the vision tower takes {size_text(n_bytes)} in float32, one ONNX file holds "
            f"{size_text(_MAX_BYTES)}; this cannot be exported"
        )
    config = VisionTowerOnnxConfig(tower.config)
    with _without_known_warnings():
        _, outputs = export(tower, config, path, opset=OPSET)
    _describe(checkpoint, path)
    try:
        # A batch of another size than the traced one shows that the batch axis is really dynamic.
        validate_model_outputs(config, tower, path, outputs, input_shapes={"batch_size": 3}, use_subprocess=False)
    except ValueError as error:  # optimum's ShapeError, AtolError and OutputMatchError
        raise ParityError(f"{path.name}: {' '.join(str(error).split())}") from None


def _describe(checkpoint: Checkpoint, path: Path) -> None:
    """Write into the graph what it is, and check it."""
    architecture = checkpoint.architecture
    model, weights = read_model(path)
    facts = {
        "role": "vision",
        "checkpoint": checkpoint.folder.name,
        "image_size": architecture.vision.image_size,
        "patch_size": architecture.vision.patch_size,
        "n_image_tokens": architecture.n_image_tokens,
        "n_embd": architecture.text.hidden_size,
    }
    onnx.helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
    shape = model.graph.output[0].type.tensor_type.shape.dim
    shape[1].dim_value, shape[2].dim_value = architecture.n_image_tokens, architecture.text.hidden_size
    described = path.with_name(f"{path.name}.described")
    write_model(described, model, weights)
    del weights  # views of the file: some systems do not replace a file that is mapped
    described.replace(path)
    onnx.checker.check_model(path, full_check=True)


@contextmanager
def _without_known_warnings() -> Iterator[None]:
    """Hide what torch says about its own exporter: optimum 2.1 asks for the TorchScript one, and it is right here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx|optimum\.exporters")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield
