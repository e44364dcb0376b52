"""The command ``quantize``: its options; ``aesedge_export``, imported only here, does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.bundles import show_made
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import BundleName, Printing, SamplePhotos, with_options
from aesedge.cli.photos import sample_photos


@with_options(json="Print the bundle, the types added to it and its fidelity figures as one JSON object.")
def quantize(
    name: BundleName,
    gguf: Annotated[
        str, typer.Option(help="Quantization types to add, comma-separated, e.g. q5_k_m,q3_k_m.", show_default=False)
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Type in the bundle that they are made from.", show_default="the most precise"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Make a copy with the new types in this folder.", show_default="none is made")
    ] = None,
    copy_name: Annotated[
        str | None, typer.Option("--name", help="Name of the copy that --out makes.", show_default="the folder's")
    ] = None,
    photo: SamplePhotos = None,
    parity: Annotated[bool, typer.Option(help="Compare the new types with the one that they are made from.")] = True,
    printing: Printing = Printing(),
) -> None:
    """Add quantization types to a bundle, made from its most precise one."""
    with imports_of_extra("quantize", "convert"):
        from aesedge_export.language.quantize_cli import quantize_command
        from aesedge_export.plan import listed
    made = quantize_command(
        name,
        gguf,
        source_type=source,
        out=out,
        name=copy_name,
        photos=sample_photos(photo, printing),
        parity=parity,
        quiet=printing.quiet,
    )
    show_made(made, printing, added={text.lower() for text in listed(gguf)})
