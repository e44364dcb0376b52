"""The command ``pull``: its options and the question for the licence; ``aesedge_export``, loaded only here, works."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aesedge.cli.bundles import show_made
from aesedge.cli.options import (
    AgainstPyTorch,
    BundleFolder,
    CalibrationPhotos,
    GgufTypes,
    Overwrite,
    ProofPhotos,
    VisionPrecisions,
)
from aesedge.cli.terminal import size, table
from aesedge.errors import MissingExtraError
from aesedge.system.sanitize import sanitize


def pull(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A known name, or OWNER/NAME of huggingface.co; @REVISION may follow. None: list the known names.",
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
            help="Folder of the CLIP model, where the checkpoint does not hold it.", show_default="downloaded too"
        ),
    ] = None,
    photo: ProofPhotos = None,
    calibrate: CalibrationPhotos = None,
    parity: AgainstPyTorch = True,
    overwrite: Overwrite = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the licence of the weights without being asked.")
    ] = False,
    keep_checkpoint: Annotated[
        bool, typer.Option("--keep-checkpoint", help="Keep the download after the bundle was made and verified.")
    ] = False,
) -> None:
    """Download a known checkpoint and turn it into a bundle.

    A download that was interrupted goes on where it stopped. Access to restricted repositories: HF_TOKEN.
    """
    try:
        from aesedge_export.hub.catalogue import catalogue

        if checkpoint is None:
            rows = [[e.name, size(e.n_bytes), e.repository, e.license] for e in catalogue().models]
            print(table(rows, header=["name", "download", "repository", "licence"]))
            print("\n'aesedge pull NAME' makes a bundle of it; OWNER/NAME of huggingface.co works too")
            return
        from aesedge_export.hub import pull as puller
    except ImportError as error:
        raise MissingExtraError(f"aesedge pull ({error.name or error} is not installed)", "export") from None
    options = puller.Export(
        gguf=gguf,
        vision=vision,
        vision_tower=vision_tower,
        photos=photo or [],
        calibrate=calibrate or [],
        parity=parity,
    )
    made = puller.pull(
        checkpoint,
        out=out,
        name=name,
        options=options,
        overwrite=overwrite,
        confirm=lambda: accept_license or _asked(),
        keep_checkpoint=keep_checkpoint,
        say=_say,
    )
    show_made(made)


def _asked() -> bool:
    """Ask on a terminal; elsewhere nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm("Do you accept the licence?", default=False, err=True)


def _say(text: str) -> None:
    print(sanitize(text, lines=True), file=sys.stderr, flush=True)
