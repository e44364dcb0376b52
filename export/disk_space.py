"""Check that the disk has room before a long job begins."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.errors import BundleError
from aesedge.system.byte_sizes import size_text
from aesedge.system.paths import existing_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_VISION_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.3}
_N_VISION_PARAMETERS = 330_000_000  # CLIP ViT-L/336 and LLaVA-1.5 13B's projector


def require_space(folder: Path, n_bytes: float, what: str) -> None:
    """Check that a folder's disk has room.

    Args:
        folder: where it will be written; it need not exist yet.
        n_bytes: how much is needed.
        what: what it is needed for, as in "the bundle".

    Raises:
        BundleError: there is less room; the message has the figures.
    """
    free = shutil.disk_usage(existing_folder(folder)).free
    if free < n_bytes:
        raise BundleError(
            f"{folder}: no room for {what}: {size_text(n_bytes)} are needed, {size_text(free)} are free; free "
            f"{size_text(n_bytes - free)} more on this disk, or set AESEDGE_HOME to a folder on a larger one"
        )


def on_one_disk(one: Path, other: Path) -> bool:
    """Return whether two folders, which need not exist yet, share a file system."""
    return existing_folder(one).stat().st_dev == existing_folder(other).stat().st_dev


def bundle_bytes(n_parameters: float, gguf_types: Iterable[str], vision_types: Iterable[str]) -> float:
    """Estimate how large the files of a bundle will be; rather too much than too little.

    Args:
        n_parameters: weights of the whole checkpoint.
        gguf_types: quantization types, upper case; each is counted once.
        vision_types: precisions of the vision graph.
    """
    n_vision = min(n_parameters, _N_VISION_PARAMETERS)
    language = sum(GGUF_TYPES[t].bits for t in set(gguf_types)) / 8 * n_parameters
    return language + sum(_VISION_BYTES.get(t, 4.0) for t in set(vision_types)) * n_vision
