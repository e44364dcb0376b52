"""The command ``import``: its options; ``aesedge_export``, imported only here, does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.bundles import show_made
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import BundleFolder, Overwrite, Printing, SamplePhotos, VisionPrecisions, with_options
from aesedge.cli.photos import sample_photos


@with_options(json="Print the new bundle, its files and its fidelity figures as one JSON object.")
def import_pair(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="LLM.gguf MMPROJ.gguf",
            help="The two files that llama.cpp runs, in any order; the language model may be given in several types.",
            show_default=False,
        ),
    ],
    out: BundleFolder = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name.", show_default="the language model's")] = None,
    vision: VisionPrecisions = "fp32,int8",
    reading: Annotated[
        str,
        typer.Option(help="trained: see as the model was trained to. llama.cpp: see as llama.cpp does with this file."),
    ] = "trained",
    license: Annotated[  # noqa: A002
        str | None, typer.Option(help="Licence of the weights.", show_default="what the file says")
    ] = None,
    template: Annotated[str, typer.Option(help="llava_v1 or vicuna_v1: the text around the image.")] = "llava_v1",
    photo: SamplePhotos = None,
    parity: Annotated[bool, typer.Option(help="Compare with llama.cpp's own image encoder.")] = True,
    link: Annotated[
        bool, typer.Option("--link", help="Share the language model's bytes with the given file instead of copying it.")
    ] = False,
    overwrite: Overwrite = False,
    printing: Printing = Printing(),
) -> None:
    """Turn a LLaVA-1.5 that llama.cpp runs (GGUF and mmproj) into a bundle; needs no PyTorch."""
    with imports_of_extra("import", "convert"):
        from aesedge_export.llama_cpp_pair.import_cli import import_command
    made = import_command(
        files,
        out=out,
        name=name,
        vision=vision,
        reading=reading,
        license=license,
        template=template,
        photos=sample_photos(photo, printing),
        parity=parity,
        link=link,
        overwrite=overwrite,
        quiet=printing.quiet,
    )
    show_made(made, printing)
