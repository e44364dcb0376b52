"""Implement ``aesedge quantize``; its options are declared in aesedge/cli."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aesedge.bundle.bundle import open_bundle
from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import default_n_threads

from ..parity.proof_inputs import BundleFiles, Inputs
from ..parity.self_proof import compare_types
from ..plan import listed
from ..progress_display import display_steps
from .imatrix_file import read_imatrix
from .language_files import report_pass
from .requantize import add_types

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle

    from ..progress import OnProgress


def quantize_command(
    bundle: str,
    gguf: str,
    *,
    source_type: str | None = None,
    out: Path | None = None,
    name: str | None = None,
    photos: Sequence[Path] = (),
    parity: bool = True,
    quiet: bool = False,
) -> Bundle:
    """Add quantization types to a bundle, with progress on stderr.

    The bundle's importance matrix is used where it has one.

    Args:
        bundle: name or folder.
        gguf: the types to add, separated by commas, any case.
        source_type: the type in the bundle that they are made of; by default the most precise one.
        out: folder of a copy that gets the types instead.
        name: name of that copy.
        photos: what the new types are compared on; by default the sample photographs.
        parity: whether to compare them with the type that they are made of.
        quiet: whether to show no progress.

    Returns:
        The bundle, or its copy, with the new types.

    Raises:
        AesedgeError: see :func:`.requantize.add_types`.
    """
    found = open_bundle(bundle)
    weights = next((found.path("imatrix", file.type) for file in found.manifest.files if file.role == "imatrix"), None)
    with display_steps(quiet=quiet) as report:
        return add_types(
            bundle,
            listed(gguf),
            source_type=source_type,
            out=out,
            name=name,
            importance=None if weights is None else read_imatrix(weights).values,
            measure=partial(_measure, found, photos or SAMPLE_PHOTOS, report) if parity else None,
            progress=report_pass(report, "language model"),
        )


def _measure(
    bundle: Bundle,
    photos: Sequence[Path],
    report: OnProgress,
    source: tuple[str, Path],
    files: Mapping[str, Path],
) -> dict[str, dict[str, Any]]:
    """Compare new types with the one that they are made of, on the bundle's own questions."""
    manifest = bundle.manifest
    pictures = [(path.name, read_image(path)) for path in photos]
    vision = {type_: bundle.path("vision", type_) for type_ in manifest.types("vision")}
    return compare_types(
        source,
        BundleFiles(llm=files, vision=vision),
        Inputs(pictures, manifest.image, manifest.prompt, manifest.rating),
        n_threads=default_n_threads(source[1].stat().st_size),
        progress=report,
    )
