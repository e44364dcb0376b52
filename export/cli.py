"""Implement ``aesedge export``; its options are declared in aesedge/cli."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aesedge.bundle.bundle import open_bundle
from aesedge.system.paths import data_folder

from . import export_checkpoint
from .plan import DEFAULT_GGUF, DEFAULT_VISION, listed
from .progress_display import display_steps
from .vision.reduction import BEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle


def export_command(  # noqa: PLR0913 (one argument for each option of the command)
    checkpoint: Path,
    *,
    out: Path | None = None,
    name: str | None = None,
    gguf: str = DEFAULT_GGUF,
    vision: str = DEFAULT_VISION,
    license: str = "not stated",  # noqa: A002 (the option's name)
    vision_tower: Path | None = None,
    base: Path | None = None,
    photos: Sequence[Path] | None = None,
    calibrate: Sequence[Path] = (),
    reduction: str = BEST,
    source_name: str | None = None,
    revision: str | None = None,
    parity: bool = True,
    overwrite: bool = False,
    quiet: bool = False,
) -> Bundle:
    """Export a checkpoint with progress on stderr.

    Args:
        checkpoint: its folder.
        out: the bundle's folder; by default the bundle's name in the folder of installed bundles.
        name: the bundle's name; by default that of ``out`` or of the checkpoint.
        gguf: quantization types, separated by commas, any case; the first is loaded by default, or Q4_K_M.
        vision: precisions of the vision graph, separated by commas.
        license: licence of the weights.
        vision_tower: folder of the CLIP model of an original-LLaVA checkpoint that does not hold it.
        base: folder of the model that a LoRA adapter is merged onto.
        photos: what parity is measured on; by default the sample photographs.
        calibrate: photos that the importance of the language model's inputs is measured on.
        reduction: how fewer image tokens are made of all of them, or ``none``.
        source_name: what the manifest calls the checkpoint.
        revision: commit of the checkpoint, for the manifest.
        parity: whether to compare with PyTorch.
        overwrite: whether a bundle that is there may be replaced.
        quiet: whether to show no progress.

    Returns:
        The bundle.

    Raises:
        AesedgeError: see :func:`.exporter.export_checkpoint`.
    """
    name = name or (out.name if out is not None else _name_of(checkpoint))
    out = out or data_folder() / name
    with display_steps(quiet=quiet) as report:
        export_checkpoint(
            checkpoint,
            out,
            name=name,
            gguf_types=listed(gguf),
            vision_types=listed(vision),
            license=license,
            vision_tower=vision_tower,
            base=base,
            photos=photos,
            calibrate=calibrate,
            reduction=reduction,
            source_name=source_name,
            revision=revision,
            parity=parity,
            overwrite=overwrite,
            progress=report,
        )
    return open_bundle(out)


def _name_of(checkpoint: Path) -> str:
    """Make a bundle's name of a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.resolve().name).lstrip("._-") or "bundle"
