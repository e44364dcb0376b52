"""The command ``export``: its options; ``aesedge_export``, imported only here, does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.bundles import show_made
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import (
    BundleFolder,
    CalibrationPhotos,
    CompareWithPyTorch,
    GgufTypes,
    Overwrite,
    Printing,
    QualityPhotos,
    SamplePhotos,
    VisionPrecisions,
    VisionTower,
    with_options,
)
from aesedge.cli.photos import sample_photos


@with_options(json="Print the new bundle, its files and its fidelity figures as one JSON object.")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.", show_default=False)],
    out: BundleFolder = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name.", show_default="the folder's")] = None,
    gguf: GgufTypes = "q8_0,q4_k_m",
    vision: VisionPrecisions = "fp32,int8",
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "not stated",  # noqa: A002
    vision_tower: VisionTower = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model, for a LoRA checkpoint.", show_default="what the adapter names"),
    ] = None,
    photo: SamplePhotos = None,
    calibrate: CalibrationPhotos = None,
    reduction: Annotated[
        str, typer.Option(help="How image tokens are reduced: cells, visionzip, pool, none.")
    ] = "cells",
    quality: QualityPhotos = None,
    parity: CompareWithPyTorch = True,
    overwrite: Overwrite = False,
    printing: Printing = Printing(),
) -> None:
    """Turn a LLaVA-1.5 checkpoint into a bundle and compare it with PyTorch."""
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
        photos=sample_photos(photo, printing),
        calibrate=sample_photos(calibrate, printing),
        reduction=reduction,
        parity=parity,
        overwrite=overwrite,
        quiet=printing.quiet,
    )
    show_made(made, printing)
    if quality:
        from aesedge.cli.tune_quality import measure_quality

        measure_quality(made, quality, None, printing)
