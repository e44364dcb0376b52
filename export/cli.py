"""Implement ``aesedge export``; its options are declared in aesedge/cli."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aesedge.bundle.bundle import open_bundle
from aesedge.system.paths import data_folder

from . import export_checkpoint
from .plan import DEFAULT_GGUF, DEFAULT_VISION, listed
from .progress_display import display_steps

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle


def export_command(
    checkpoint: Path,
    *,
    out: Path | None = None,
    name: str | None = None,
    gguf: str = DEFAULT_GGUF,
    vision: str = DEFAULT_VISION,
    quiet: bool = False,
    **options: Any,
) -> Bundle:
    """Export a checkpoint with progress on stderr.

    Args:
        checkpoint: its folder.
        out: the bundle's folder; by default the bundle's name in the folder of installed bundles.
        name: the bundle's name; by default that of ``out`` or of the checkpoint.
        gguf: quantization types, separated by commas, any case; the first is loaded by default, or Q4_K_M.
        vision: precisions of the vision graph, separated by commas.
        quiet: whether to show no progress.
        options: the other options of :func:`.exporter.export_checkpoint`, which has the errors too.
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
            progress=report,
            **options,
        )
    return open_bundle(out)


def _name_of(checkpoint: Path) -> str:
    """Make a bundle's name of a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.resolve().name).lstrip("._-") or "bundle"
