"""The command ``quantize``: its options and what it shows; the work is done by ``aesedge_export``, loaded only here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.bundles import show_made
from aesedge.cli.options import Printing, ProofPhotos, expand
from aesedge.cli.streams import print_json
from aesedge.errors import MissingExtraError


@expand
def quantize(
    bundle: Annotated[str, typer.Argument(help="Name of a bundle, or its folder.", show_default=False)],
    gguf: Annotated[
        str,
        typer.Option(help="Quantization types to add, with commas between, e.g. q5_k_m,q3_k_m.", show_default=False),
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Type in the bundle that they are made of.", show_default="the most precise"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Make a copy with the new types in this folder.", show_default="none is made")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the copy.", show_default="the folder's; without --out no copy is made")
    ] = None,
    photo: ProofPhotos = None,
    parity: Annotated[bool, typer.Option(help="Compare the new types with the one that they are made of.")] = True,
    printing: Printing = Printing(),
) -> None:
    """Add quantization types to a bundle, made of its most precise one."""
    try:
        from aesedge_export.language.quantize_cli import quantize_command
        from aesedge_export.plan import listed
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"aesedge quantize ({error.name or error} is not installed)", "convert") from None
    quiet = printing.quiet or printing.json
    made = quantize_command(
        bundle, gguf, source_type=source, out=out, name=name, photos=photo or [], parity=parity, quiet=quiet
    )
    asked = {text.lower() for text in listed(gguf)}
    added = [f for f in made.manifest.files if f.role == "llm" and f.type.lower() in asked]
    if printing.json:
        files = [{"gguf": f.type.lower(), "file": f.path, "bytes": f.n_bytes} for f in added]
        print_json({"bundle": made.name, "folder": str(made.folder), "added": files})
        return
    show_made(made)
