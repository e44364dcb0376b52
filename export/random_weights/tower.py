"""Draw the tensors of a CLIP tower and projector with random weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from aesedge.image.image_spec import llava_spec

from ..vision.vision_builder import VisionShape

if TYPE_CHECKING:
    import numpy.typing as npt

    from aesedge.image.image_spec import ImageSpec

    from .shapes import ModelShape


_SPREAD = 0.1  # of gains and biases


class RandomTower:
    """The tensors that a vision graph is made of, drawn when they are asked for.

    Args:
        shape: its sizes.
        seed: another number gives other weights.
    """

    def __init__(self, shape: ModelShape, *, seed: int) -> None:
        tower = shape.tower
        self.shape = VisionShape(
            image_size=tower.image_size,
            patch_size=tower.patch_size,
            hidden=tower.hidden,
            n_heads=tower.n_heads,
            n_layers=tower.n_layers,
            intermediate=tower.intermediate,
            n_embd=shape.n_embd,
        )
        self._shapes = self.shape.tensor_shapes()
        self._seed = seed

    @property
    def n_parameters(self) -> int:
        """Weights of tower and projector."""
        return self.shape.n_bytes // 4

    @property
    def image(self) -> ImageSpec:
        """LLaVA-1.5's preprocessing, for this tower's image."""
        return llava_spec(self.shape.image_size)

    def tensor(self, canonical: str) -> npt.NDArray[np.float32]:
        """Return a tensor by its canonical name, float32: gains near 1, matrices that keep the scale of their input."""
        shape = self._shapes[canonical]
        random = np.random.default_rng([self._seed, crc32(canonical.encode())])
        values = random.standard_normal(shape, np.float32)
        if len(shape) > 1:
            values *= np.float32(math.prod(shape[1:]) ** -0.5)
            return values
        center = 1.0 if "norm" in canonical and canonical.endswith(".weight") else 0.0
        return np.float32(center) + np.float32(_SPREAD) * values
