"""Add quantization types to a bundle from its most precise language model file.

The bundle is valid at every moment: new files are written under other names, moved into place when they are whole, and
the manifest, which is what makes them part of the bundle, is replaced last.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

import aesedge
from aesedge.bundle.bundle import Bundle, open_bundle
from aesedge.bundle.checksums import sha256
from aesedge.bundle.gguf_types import PRECISE_TYPES
from aesedge.bundle.manifest import MANIFEST_NAME, BundleFile, Manifest, format_manifest, parse_manifest
from aesedge.errors import AesedgeError, BundleError, UsageError
from aesedge.system.machine import default_n_threads
from aesedge.system.paths import data_folder

from ..bundle_files import typed
from ..disk_space import require_space
from ..plan import checked_name
from ..work_folder import check_target, work_folder
from .gguf_source import GgufSource
from .language_gguf import language_bytes, write_language
from .tensor_types import parse_type

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from .language_gguf import PassProgress

    Measure = Callable[[tuple[str, Path], Mapping[str, Path]], Mapping[str, dict[str, Any]]]


_PARTIAL = re.compile(r"\..+\.(\d+)\.partial")


def add_types(
    bundle: str | os.PathLike[str],
    types: Sequence[str],
    *,
    source_type: str | None = None,
    out: Path | None = None,
    name: str | None = None,
    importance: Mapping[str, npt.NDArray[np.float32]] | None = None,
    measure: Measure | None = None,
    progress: Callable[[PassProgress], None] | None = None,
) -> Bundle:
    """Add quantization types to a bundle.

    Args:
        bundle: name or folder.
        types: the types to add, any case.
        source_type: the type in the bundle that they are made of; by default the most precise one.
        out: folder of a copy that gets the types instead; the bundle stays as it is.
        name: name of that copy; without ``out`` it is put among the installed bundles.
        importance: llama.cpp's name of a matrix to float32 [n_in], how much each of its inputs matters.
        measure: called with the source's type and file and the new types' files; returns figures for the manifest.
        progress: called while the files are written.

    Returns:
        The bundle, or its copy, with the new types.

    Raises:
        UsageError: a type is unknown or there already, or the bundle may not be changed.
        BundleError: the bundle has nothing precise enough, is damaged, or there is no room.
    """
    found = open_bundle(bundle)
    wanted = _checked_types(found, types)
    source_type = _checked_source(found, source_type)
    if out is None and name is None:
        _check_not_installed_with_us(found)
    source = GgufSource(found.path("llm", source_type))
    work = _Quantization(found.manifest, source_type, source, importance, measure, progress)
    n_bytes = sum(language_bytes(source, wanted, weighted=importance is not None).values())
    if out is None and name is None:
        _remove_leftovers(found.folder)
        require_space(found.folder, n_bytes, ", ".join(wanted))
        _add_in_place(work, wanted, found.folder)
        return open_bundle(found.folder)
    name = checked_name(name or (out.name if out else ""))
    out = (out or data_folder() / name).absolute()
    check_target(out, overwrite=False)
    require_space(out, n_bytes + sum(f.n_bytes for f in found.manifest.files), "the copy with its new types")
    _add_to_copy(work, wanted, found, out, name)
    return open_bundle(out)


class _Quantization(msgspec.Struct, frozen=True):
    """What the new types are made of."""

    manifest: Manifest
    source_type: str
    source: GgufSource
    importance: Any
    measure: Any
    progress: Any

    def write(self, targets: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
        """Write the files and return what the manifest says about each type."""
        stored_otherwise = write_language(
            self.source,
            targets,
            importance=self.importance,
            n_threads=default_n_threads(self.source.path.stat().st_size),
            progress=self.progress,
        )
        figures = self.measure((self.source_type, self.source.path), targets) if self.measure else {}
        noted = {}
        for gguf_type, tensors in stored_otherwise.items():
            noted[gguf_type] = {"made_of": self.source_type, **figures.get(gguf_type, {"checked": False})}
            if tensors:
                noted[gguf_type]["stored_otherwise"] = tensors
        return noted


def _checked_types(bundle: Bundle, types: Sequence[str]) -> list[str]:
    wanted = list(dict.fromkeys(parse_type(text) for text in types))
    if not wanted:
        raise UsageError("no quantization type is asked for; give one with --gguf, e.g. --gguf q5_k_m")
    present = [t for t in wanted if bundle.manifest.file("llm", t)]
    if present:
        have = ", ".join(t.lower() for t in bundle.manifest.types("llm"))
        raise UsageError(f"bundle {bundle.name!r} has {', '.join(t.lower() for t in present)} already; it has: {have}")
    return wanted


def _checked_source(bundle: Bundle, asked: str | None) -> str:
    """Return the type in the bundle that others are made of."""
    have = bundle.manifest.types("llm")
    listed = ", ".join(t.lower() for t in have)
    if asked is not None:
        found = next((t for t in have if t.lower() == asked.strip().lower()), None)
        if found is None:
            raise UsageError(f"bundle {bundle.name!r} has no type {asked!r} to begin from; it has: {listed}")
        if found.upper() not in PRECISE_TYPES:
            raise UsageError(
                f"{found.lower()} is too coarse to begin from: its errors would add to the new type's; "
                f"begin from {', '.join(t.lower() for t in PRECISE_TYPES)}"
            )
        return found
    for precise in PRECISE_TYPES:
        file = bundle.manifest.file("llm", precise)
        if file is not None:
            return file.type
    raise BundleError(
        f"bundle {bundle.name!r} has only {listed}, too coarse to begin from: its errors would add to the new type's; "
        "export or import it again with the types that you want, or with q8_0"
    )


def _check_not_installed_with_us(bundle: Bundle) -> None:
    package = Path(aesedge.__file__).resolve().parent
    if package in bundle.folder.resolve().parents:
        raise UsageError(
            f"bundle {bundle.name!r} is part of the installed package and is not changed; "
            f"add --name to make a copy with the new types, e.g. --name {bundle.name}-more"
        )


def _add_in_place(work: _Quantization, types: Sequence[str], folder: Path) -> None:
    names = _file_names(work.manifest, types, {path.name for path in folder.iterdir()})
    partial = {t: _partial(folder, names[t]) for t in types}
    moved: list[Path] = []
    try:
        noted = work.write(partial)
        files = [_described(t, partial[t], names[t]) for t in types]
        # Read again: another run may have added types meanwhile.
        manifest = _with_types(open_bundle(folder).manifest, files, noted)
        for gguf_type, path in partial.items():
            moved.append(folder / names[gguf_type])
            path.replace(moved[-1])
        _replace_manifest(folder, manifest)
    except BaseException as error:
        _unlink([*partial.values(), *moved])
        if isinstance(error, OSError) and not isinstance(error, AesedgeError):
            reason = error.strerror or str(error)
            raise BundleError(f"{folder}: cannot be written: {reason}; make room or add --out") from error
        raise


def _add_to_copy(work: _Quantization, types: Sequence[str], bundle: Bundle, out: Path, name: str) -> None:
    with work_folder(out, overwrite=False) as folder:
        for path in bundle.hashed_paths(*((file.role, file.type) for file in bundle.manifest.files)):
            shutil.copyfile(path, folder / path.name)
        names = _file_names(work.manifest, types)
        noted = work.write({t: folder / names[t] for t in types})
        files = [_described(t, folder / names[t], names[t]) for t in types]
        manifest = msgspec.structs.replace(_with_types(work.manifest, files, noted), name=name)
        (folder / MANIFEST_NAME).write_bytes(format_manifest(manifest))


def _file_names(manifest: Manifest, types: Sequence[str], there: Collection[str] = ()) -> dict[str, str]:
    """Return a name for each type's file that no file of the bundle, and none beside them, has."""
    taken = {name.lower() for name in (*(file.path for file in manifest.files), *there)}
    names = {}
    for gguf_type in types:
        stem = f"llm-{gguf_type.lower()}"
        while f"{stem}.gguf" in taken:
            stem += "-new"
        names[gguf_type] = f"{stem}.gguf"
    return names


def _described(gguf_type: str, path: Path, name: str) -> BundleFile:
    return BundleFile(path=name, role="llm", type=gguf_type, n_bytes=path.stat().st_size, sha256=sha256(path))


def _with_types(manifest: Manifest, files: Sequence[BundleFile], noted: Mapping[str, dict[str, Any]]) -> Manifest:
    """Return a manifest with more language files, which stand behind those it has."""
    there = [file.type for file in files if manifest.file("llm", file.type)]
    if there:
        raise UsageError(f"bundle {manifest.name!r} has got {', '.join(there)} from another run meanwhile")
    last = max(i for i, file in enumerate(manifest.files) if file.role == "llm")
    types = {**manifest.fidelity.types, **typed({"types": noted}).types}
    fidelity = msgspec.structs.replace(manifest.fidelity, types=types)
    return msgspec.structs.replace(
        manifest, files=[*manifest.files[: last + 1], *files, *manifest.files[last + 1 :]], fidelity=fidelity
    )


def _replace_manifest(folder: Path, manifest: Manifest) -> None:
    data = format_manifest(manifest)
    parse_manifest(data, MANIFEST_NAME)
    partial = _partial(folder, MANIFEST_NAME)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / MANIFEST_NAME)
    finally:
        _unlink([partial])


def _partial(folder: Path, name: str) -> Path:
    return folder / f".{name}.{os.getpid()}.partial"


def _remove_leftovers(folder: Path) -> None:
    """Remove what runs left behind when they were killed."""
    for path in folder.glob(".*.partial"):
        found = _PARTIAL.fullmatch(path.name)
        if found and path.is_file() and (int(found[1]) == os.getpid() or not psutil.pid_exists(int(found[1]))):
            _unlink([path])


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)
