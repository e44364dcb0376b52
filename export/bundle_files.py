"""Describe a bundle's files for its manifest, and write the manifest."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

import msgspec

from aesedge.bundle.checksums import sha256
from aesedge.bundle.fidelity import Fidelity
from aesedge.bundle.first_load import ModelFile, note_loaded
from aesedge.bundle.manifest import MANIFEST_NAME, BundleFile, Manifest, format_manifest, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from aesedge.bundle.manifest import Role

    from .progress import OnProgress


def described(files: Iterable[tuple[Role, str, Path]], report: OnProgress) -> list[BundleFile]:
    """Return role, type, size and SHA-256 of files.

    Args:
        files: role, type and path of each.
        report: called with the step's name and the share of the bytes that are read.
    """
    files = list(files)
    n_total = sum(path.stat().st_size for *_, path in files)
    found: list[BundleFile] = []
    report("hashes", 0.0)
    for role, kind, path in files:
        n_bytes = path.stat().st_size
        found.append(BundleFile(path=path.name, role=role, type=kind, n_bytes=n_bytes, sha256=sha256(path)))
        report("hashes", sum(file.n_bytes for file in found) / n_total)
    return found


def write_manifest(folder: Path, manifest: Manifest, *, loaded: bool) -> Manifest:
    """Write a manifest into a bundle's folder, and return it as it is read back.

    Args:
        folder: where its files are.
        manifest: what it says of them.
        loaded: whether all of them were loaded on the way, so that they need no trial when they are first used.
    """
    data = format_manifest(manifest)
    (folder / MANIFEST_NAME).write_bytes(data)
    if loaded:
        note_loaded([
            ModelFile(file.role, folder / file.path, file.sha256)
            for file in manifest.files
            if file.role in {"vision", "llm"}
        ])  # fmt: skip
    return parse_manifest(data, MANIFEST_NAME)


def typed(fidelity: Mapping[str, object]) -> Fidelity:
    """Return plain figures as the manifest has them; what is not a number is left open, as JSON does."""
    return msgspec.json.decode(msgspec.json.encode(fidelity), type=Fidelity)


def created_by() -> str:
    """Return the name and version of this program, for the manifest."""
    try:
        return f"aesedge {metadata.version('aesedge')}"
    except metadata.PackageNotFoundError:  # run from a source folder
        return "aesedge (source)"
