"""The command ``pull``: its options and the licence prompt; ``aesedge_export``, imported only here, does the work."""

from __future__ import annotations

import sys
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
    SamplePhotos,
    VisionPrecisions,
    with_options,
)
from aesedge.cli.photos import sample_photos
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import table
from aesedge.system.byte_sizes import size_text
from aesedge.system.sanitize import sanitize


@with_options(json="Print the new bundle as one JSON object, or without NAME one line for each known checkpoint.")
def pull(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A known name, or OWNER/NAME of huggingface.co; @REVISION may follow. Without it: list known names.",
            show_default=False,
        ),
    ] = None,
    out: BundleFolder = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name.", show_default="NAME")] = None,
    gguf: GgufTypes = "q8_0,q4_k_m",
    vision: VisionPrecisions = "fp32,int8",
    vision_tower: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the CLIP model, if the checkpoint does not contain it.", show_default="downloaded too"
        ),
    ] = None,
    photo: SamplePhotos = None,
    calibrate: CalibrationPhotos = None,
    parity: CompareWithPyTorch = True,
    overwrite: Overwrite = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the licence of the weights without being asked.")
    ] = False,
    keep_checkpoint: Annotated[
        bool, typer.Option("--keep-checkpoint", help="Keep the download after the bundle is made and verified.")
    ] = False,
    printing: Printing = Printing(),
) -> None:
    """Download a checkpoint and turn it into a bundle.

    An interrupted download resumes. Set HF_TOKEN for restricted repositories.
    """
    with imports_of_extra("pull", "export"):
        from aesedge_export.hub import pull as puller
        from aesedge_export.hub.catalogue import catalogue
    if checkpoint is None:
        known = catalogue().models
        if printing.json:
            for e in known:
                print_json({"name": e.name, "bytes": e.n_bytes, "repository": e.repository, "license": e.license})
            return
        rows = [[e.name, size_text(e.n_bytes), e.repository, e.license] for e in known]
        print(table(rows, header=["name", "download", "repository", "licence"]))
        print("\n'aesedge pull NAME' makes a bundle of it; OWNER/NAME of huggingface.co works too")
        return
    options = puller.Export(
        gguf=gguf,
        vision=vision,
        vision_tower=vision_tower,
        photos=sample_photos(photo, printing),
        calibrate=sample_photos(calibrate, printing),
        parity=parity,
    )
    made = puller.pull(
        checkpoint,
        out=out,
        name=name,
        options=options,
        overwrite=overwrite,
        confirm=lambda: accept_license or _confirm(),
        keep_checkpoint=keep_checkpoint,
        say=(lambda _text: None) if printing.quiet and accept_license else _say,
        quiet=printing.quiet,
    )
    show_made(made, printing)


def _confirm() -> bool:
    """Ask on a terminal; elsewhere there is no one to answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm("Do you accept the licence?", default=False, err=True)


def _say(text: str) -> None:
    print(sanitize(text, lines=True), file=sys.stderr, flush=True)
