"""The command ``export``: its options; the work is done by ``aesedge_export``, which is loaded only here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.bundles import show_made
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import (
    AgainstPyTorch,
    BundleFolder,
    CalibrationPhotos,
    GgufTypes,
    Overwrite,
    Printing,
    ProofPhotos,
    QualityPhotos,
    VisionPrecisions,
)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.", show_default=False)],
    out: BundleFolder = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name.", show_default="the folder's")] = None,
    gguf: GgufTypes = "q8_0,q4_k_m",
    vision: VisionPrecisions = "fp32,int8",
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "not stated",  # noqa: A002
    vision_tower: Annotated[
        Path | None,
        typer.Option(help="Folder of the CLIP model, where the checkpoint does not hold it.", show_default=False),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model, for a LoRA checkpoint.", show_default="what the adapter names"),
    ] = None,
    photo: ProofPhotos = None,
    calibrate: CalibrationPhotos = None,
    reduction: Annotated[
        str, typer.Option(help="How fewer image tokens are made: cells, visionzip, pool, none.")
    ] = "cells",
    quality: QualityPhotos = None,
    parity: AgainstPyTorch = True,
    overwrite: Overwrite = False,
) -> None:
    """Turn a LLaVA-1.5 checkpoint into a bundle and prove that it answers as PyTorch does."""
    with imports_of_extra("export", "export"):
        from aesedge_export.cli import export_command
    made = export_command(
        checkpoint,
        out=out,
        name=name,
        gguf=gguf,
        vision=vision,
        license=license,
        vision_tower=vision_tower,
        base=base,
        photos=photo or [],
        calibrate=calibrate or [],
        reduction=reduction,
        parity=parity,
        overwrite=overwrite,
    )
    show_made(made)
    if quality:
        from aesedge.cli.tune_quality import measure_quality

        measure_quality(made, quality, None, Printing(), purpose="score")
