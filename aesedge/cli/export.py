"""The command ``export``: its options; the work is done by ``aesedge_export``, which is loaded only here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aesedge.errors import MissingExtraError


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the checkpoint.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder.", show_default="NAME among the installed bundles")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name.", show_default="the folder's")] = None,
    gguf: Annotated[
        str, typer.Option(help="Quantization types, with commas between. Loaded by default: q4_k_m, else the first.")
    ] = "q8_0,q4_k_m",
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "not stated",  # noqa: A002
    vision_tower: Annotated[
        Path | None,
        typer.Option(help="Folder of the CLIP model, where the checkpoint does not hold it.", show_default=False),
    ] = None,
    photo: Annotated[
        list[Path] | None,
        typer.Option(help="Measure parity on this photo; may be given several times.", show_default="two samples"),
    ] = None,
    parity: Annotated[bool, typer.Option(help="Compare with PyTorch; needs 4 bytes of memory a weight.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
) -> None:
    """Turn a LLaVA-1.5 checkpoint into a bundle and prove that it answers as PyTorch does."""
    try:
        from aesedge_export.cli import export_command
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"aesedge export ({error.name or error} is not installed)", "export") from None
    export_command(
        checkpoint,
        out=out,
        name=name,
        gguf=gguf,
        license=license,
        vision_tower=vision_tower,
        photos=photo or [],
        parity=parity,
        overwrite=overwrite,
    )
