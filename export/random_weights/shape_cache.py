"""Cache bundles of random weights in a folder."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from aesedge.bundle.bundle import Bundle, open_bundle
from aesedge.errors import AesedgeError, UsageError

from ..plan import checked_precisions
from .builder import shape_source, write_shape
from .shapes import parse_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..progress import OnProgress
    from .shapes import ModelShape


def cache_path(folder: Path, shape: ModelShape, gguf_types: Sequence[str], vision_types: Sequence[str]) -> Path:
    """Return where a bundle is kept: a name for people, and the hash of all that it is made from."""
    types = [*sorted(t.lower() for t in gguf_types), *sorted(t.lower() for t in vision_types)]
    text = "\n".join([shape_source(shape).revision, *types])
    return folder / f"{shape.name}-{'-'.join(types)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cached_bundle(
    folder: Path,
    shape: ModelShape | str,
    *,
    gguf_types: Sequence[str],
    vision_types: Sequence[str],
    mmproj: bool = True,
    check: Callable[[], None] = lambda: None,
    progress: OnProgress | None = None,
) -> Bundle:
    """Return a bundle of a shape, made if it is not there whole.

    Several processes may want the same one: each makes its own, the first that is done is taken by all.

    Args:
        folder: where such bundles are kept.
        shape: a shape, its name, or a text as :func:`.shapes.parse_shape` reads it.
        gguf_types: quantization types, any case.
        vision_types: precisions of the vision graph.
        mmproj: whether llama.cpp's form of the tower is beside it.
        check: called before one is made; it may raise.
        progress: called with step, share done, and what is being worked on.

    Raises:
        UsageError: there is no such shape or type.
        BundleError: the folder cannot be written, or there is no room.
    """
    shape = parse_shape(shape) if isinstance(shape, str) else shape
    out = cache_path(folder, shape, gguf_types, vision_types)
    precisions = checked_precisions(vision_types)
    was_there = out.exists()
    if not _is_whole(out):
        check()
        if was_there:  # what was altered is of no use, and can be made again
            shutil.rmtree(out, ignore_errors=True)

    def write() -> None:
        write_shape(shape, out, gguf_types=gguf_types, vision_types=precisions, mmproj=mmproj, progress=progress)

    try:
        write()
    except UsageError:
        if not _is_whole(out):
            raise
        write()  # another process was faster; its bundle is taken
    return open_bundle(out)


def _is_whole(out: Path) -> bool:
    """Return whether a bundle is there with the content that its manifest says."""
    try:
        bundle = open_bundle(out)
        for file in bundle.manifest.files:
            bundle.path(file.role, file.type)  # compares the hash, which is remembered
    except AesedgeError:
        return False
    return True
