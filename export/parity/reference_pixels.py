"""Preprocess photos as LLaVA's authors do: transformers' CLIP processor on a padded square, no code of aesedge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

if TYPE_CHECKING:
    from ..checkpoint.checkpoint import Checkpoint
    from .stages import FloatArray


class LlavaPixels:
    """LLaVA's order of preprocessing (``expand2square`` of llava/mm_utils.py, then CLIP's) for one checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._processor = _image_processor(checkpoint)

    def __call__(self, image: Image.Image) -> FloatArray:
        """Return the pixels of an RGB image, float32 [1, 3, image_size, image_size]."""
        side = max(image.size)
        square = Image.new("RGB", (side, side), tuple(int(x * 255) for x in self._processor.image_mean))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        pixels = self._processor(square, return_tensors="np")["pixel_values"]
        return np.asarray(pixels, np.float32)


def _image_processor(checkpoint: Checkpoint) -> CLIPImageProcessor:
    """Return CLIP's preprocessing as LLaVA sets it up, by the checkpoint's own file where it has one."""
    folder = checkpoint.folder
    if (folder / "preprocessor_config.json").is_file():
        return CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    size, image = checkpoint.architecture.vision.image_size, checkpoint.image
    return CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(image.mean),
        image_std=list(image.std),
    )
