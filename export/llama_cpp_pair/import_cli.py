"""Implement ``aesedge import``; its options are declared in aesedge/cli."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.gguf_header import read_header
from aesedge.errors import AesedgeError
from aesedge.system.paths import data_folder

from ..plan import checked_name, listed
from ..progress_display import display_steps
from .importer import import_pair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle

_MMPROJ = re.compile(r"mmproj", re.IGNORECASE)
_BLOB = re.compile(r"(?:sha\d*[-_:.])?[0-9a-f]{32,}", re.IGNORECASE)
"""What stores that go by content call their files: Ollama, the Hugging Face cache, container registries."""
_MAX_NAME = 60
_TYPE = re.compile(r"[-._](?:b?f(?:16|32)|i?q\d+(?:_\w+)*)$", re.IGNORECASE)


def import_command(
    files: Sequence[Path],
    *,
    out: Path | None = None,
    name: str | None = None,
    vision: str,
    quiet: bool = False,
    **options: Any,
) -> Bundle:
    """Import a pair with progress on stderr.

    Args:
        files: the mmproj and one or more types of the language model, in any order.
        out: the bundle's folder; by default the bundle's name in the folder of installed bundles.
        name: the bundle's name; by default that of ``out`` or of the language model's file.
        vision: precisions of the vision graph, separated by commas.
        quiet: whether to show no progress.
        options: the other options of :func:`.importer.import_pair`.

    Returns:
        The bundle.

    Raises:
        AesedgeError: see :func:`.importer.import_pair`.
    """
    name = name or (out.name if out is not None else name_of(files))
    out = out or data_folder() / checked_name(name)
    with display_steps(quiet=quiet) as report:
        import_pair(files, out, name=checked_name(name), vision_types=listed(vision), progress=report, **options)
    return open_bundle(out)


def name_of(files: Sequence[Path]) -> str:
    """Make a bundle's name of the language model's file: its name without the type, its folder's, or what is in it."""
    stems = [path.stem for path in files if not _MMPROJ.search(path.name)] or [path.stem for path in files] or [""]
    stem = _TYPE.sub("", stems[0])
    if re.fullmatch("ggml[-_]model", stem, re.IGNORECASE):  # what llama.cpp's converter calls all of them
        stem = files[0].resolve().parent.name
    name = "" if _BLOB.fullmatch(stem) else _typable(stem)
    return name or _name_in(files) or "bundle"


def _typable(text: str) -> str:
    """Return what of a text a bundle can be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:_MAX_NAME].strip("._-")


def _name_in(files: Sequence[Path]) -> str:
    """Return a name by what a language model's header says: what it is called, else its kind and its size."""
    for path in files:
        with suppress(AesedgeError):
            header = read_header(path)
            if header.text("general.architecture") != "llama":
                continue
            n_weights = sum(math.prod(tensor.shape) for tensor in header.tensors.values())
            called = header.text("general.basename") or header.text("general.name")
            name = "" if _BLOB.fullmatch(called) else _typable(called)
            return (name or f"llava-{_size(n_weights)}").lower()
    return ""


def _size(n_weights: int) -> str:
    """Return a number of weights as models are called by it: ``7b``, ``160m``."""
    return f"{n_weights / 1e9:.0f}b" if n_weights >= 950e6 else f"{max(1, round(n_weights / 1e6))}m"
