"""Find and open bundles, and check that their files are intact."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bundle import checksums
from aesedge.bundle.first_load import ModelFile, check_files, file_state, is_known
from aesedge.bundle.manifest import (
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    BundleFile,
    Manifest,
    Role,
    format_manifest,
    parse_manifest,
)
from aesedge.errors import BundleError, BundleFormatError, BundleIntegrityError, BundleNotFoundError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.error_text import shortened
from aesedge.system.git_lfs import git_lfs_problem, is_git_lfs_pointer, refuse_git_lfs_pointer
from aesedge.system.paths import data_folder
from aesedge.system.regular_file import check_regular, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aesedge.bundle.first_load import LoadStep

POCKET = "pocket"
_POCKET_FOLDER = Path(__file__).parent.parent / POCKET
_TEXT_MAX_BYTES = 1 << 24
_STEPS: dict[Role, LoadStep] = {"vision": "vision", "llm": "llm"}
"""Roles of files that a runtime loads, and how the first load is tried."""


@dataclass(frozen=True)
class Bundle:
    """A folder with a valid manifest and all its files."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name in the manifest."""
        return self.manifest.name

    @property
    def typed_name(self) -> str:
        """Value of ``--bundle`` for it: the name of an installed bundle, else the folder."""
        return next((name for name, folder in installed() if folder == self.folder), str(self.folder))

    def path(self, role: Role, type_: str) -> Path:
        """Return the file of a role and type (any case), see :meth:`paths`."""
        return self.paths((role, type_))[0]

    def paths(self, *wanted: tuple[Role, str]) -> list[Path]:
        """Return files by role and type (any case), see :meth:`hashed_paths` and :meth:`check_loads`."""
        paths = self.hashed_paths(*wanted)
        self.check_loads(*wanted)
        return paths

    def hashed_paths(self, *wanted: tuple[Role, str]) -> list[Path]:
        """Return files by role and type (any case), with their hashes checked.

        Raises:
            BundleNotFoundError: the bundle has no such type; the message lists those it has.
            BundleIntegrityError: the content is not what the manifest says.
        """
        files = [self._file(role, type_) for role, type_ in wanted]
        for file in files:
            _check_size(self.folder, file)
            path = self.folder / file.path
            checksums.check_sha256(path, file.sha256, checksums.cached_sha256(path, expected=file.sha256))
        return [self.folder / file.path for file in files]

    def check_loads(self, *wanted: tuple[Role, str]) -> None:
        """Check that hashed files can be loaded, see :func:`aesedge.bundle.first_load.check_files`."""
        if not self._is_embedded:
            files = [self._file(role, type_) for role, type_ in wanted if role in _STEPS]
            check_files([ModelFile(_STEPS[file.role], self.folder / file.path, file.sha256) for file in files])

    def unread_path(self, role: Role, type_: str) -> Path:
        """Return a file whose header llama.cpp may read; only its size was compared, not its hash.

        Raises:
            BundleError, ModelLoadError: as of :meth:`paths`.
        """
        file = self._file(role, type_)
        _check_size(self.folder, file)
        path = self.folder / file.path
        if role == "llm" and not self._is_embedded:
            is_loaded = checksums.known_sha256(path) == file.sha256 and is_known(ModelFile("llm", path, file.sha256))
            if not is_loaded:
                check_files([ModelFile("llm header", path, file_state(path))])
        return path

    def _file(self, role: Role, type_: str) -> BundleFile:
        file = self.manifest.file(role, type_)
        if file is None:
            what = "GGUF type" if role == "llm" else "vision precision"
            have = ", ".join(t.lower() for t in self.manifest.types(role))
            raise BundleNotFoundError(f"bundle {self.name!r} has no {what} {type_!r}; it has: {have}")
        return file

    @property
    def _is_embedded(self) -> bool:
        """Whether it is part of this package."""
        return self.folder.resolve() == _POCKET_FOLDER.resolve()

    def text(self, role: Role) -> str:
        """Return the text of the first file of a role, with its hash checked; invalid UTF-8 is replaced.

        Raises:
            BundleNotFoundError: the bundle has none.
            BundleIntegrityError: it is missing, altered, or too long for a text.
        """
        file = next((f for f in self.manifest.files if f.role == role), None)
        if file is None:
            raise BundleNotFoundError(f"bundle {self.name!r} has no {'model card' if role == 'card' else role}")
        path = self.path(role, file.type)
        try:
            return read_regular(path, most_bytes=_TEXT_MAX_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise BundleIntegrityError(f"{path}: cannot be read: {error.strerror}") from None

    def verify(self, progress: Callable[[int], None] | None = None) -> Iterator[tuple[BundleFile, str]]:
        """Hash every file again and compare it with the manifest.

        Args:
            progress: called with the number of bytes read since the last call.

        Yields:
            Each file with an empty text, or with what is wrong.
        """
        for file in self.manifest.files:
            try:
                _check_size(self.folder, file)
                path = self.folder / file.path
                checksums.check_sha256(path, file.sha256, checksums.sha256(path, progress))
            except BundleIntegrityError as error:
                yield file, str(error)
            else:
                yield file, ""


def open_bundle(name: str | os.PathLike[str]) -> Bundle:
    """Open a bundle: read its manifest and check that its files exist with the right size.

    Args:
        name: the name of an installed bundle, or a folder.

    Raises:
        BundleNotFoundError: there is none; the message lists those there are.
        BundleFormatError: the manifest is not valid.
        BundleIntegrityError: a file is missing or of another size.
    """
    folder = _find(name)
    return _read(folder)


def _read(folder: Path, *, check: bool = True) -> Bundle:
    path = folder / MANIFEST_NAME
    try:
        data = read_regular(path, most_bytes=MANIFEST_MAX_BYTES)
    except OSError as error:
        raise BundleNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    if is_git_lfs_pointer(data):
        raise BundleFormatError(git_lfs_problem(path))
    manifest = parse_manifest(data, str(path))
    if check:
        for file in manifest.files:
            _check_size(folder, file)
    return Bundle(folder, manifest)


def replace_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Replace a bundle's manifest atomically by another one of the same files; return the new bundle.

    Raises:
        BundleError: the folder cannot be written.
    """
    path = bundle.folder / MANIFEST_NAME
    try:
        write_atomic(path, format_manifest(manifest))
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be written: {error.strerror}; copy the bundle to a folder of your own and name that"
        ) from None
    return Bundle(bundle.folder, manifest)


def read_unchecked(name: str | os.PathLike[str]) -> Bundle:
    """Open a bundle without checking its files, for ``verify``."""
    return _read(_find(name), check=False)


def _check_size(folder: Path, file: BundleFile) -> None:
    path = folder / file.path
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise BundleIntegrityError(f"{path}: missing; install or export the bundle again") from None
    except OSError as error:
        raise BundleIntegrityError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        check_regular(path, found.st_mode)
    except OSError as error:
        raise BundleIntegrityError(f"{path}: {error.strerror}; install or export the bundle again") from None
    n_bytes = found.st_size
    if n_bytes != file.n_bytes:
        refuse_git_lfs_pointer(path, BundleIntegrityError)
        raise BundleIntegrityError(
            f"{path}: altered: {n_bytes} bytes, the manifest says {file.n_bytes}; install or export the bundle again"
        )


def installed_folders() -> list[Path]:
    """Return the folders of all bundles that can be named, the embedded one first."""
    try:
        found = sorted(p for p in data_folder().iterdir() if not p.name.startswith(".") and _has_manifest(p))
    except OSError:  # there is no such folder, or it cannot be read
        found = []
    embedded = [_POCKET_FOLDER] if (_POCKET_FOLDER / MANIFEST_NAME).is_file() else []
    return embedded + found


class Installed(NamedTuple):
    """A bundle that can be named."""

    name: str
    """What ``--bundle`` takes: the folder's name, or its path where another bundle has that name already."""
    folder: Path


def installed() -> list[Installed]:
    """Return all bundles that can be named, readable or not, the embedded one first."""
    taken: set[str] = set()
    found = []
    for folder in installed_folders():
        found.append(Installed(str(folder) if folder.name in taken else folder.name, folder))
        taken.add(folder.name)
    return found


def _has_manifest(folder: Path) -> bool:
    """Return whether a folder has a file with a manifest's name, valid or not."""
    return os.path.lexists(folder / MANIFEST_NAME)


def _find(name: str | os.PathLike[str]) -> Path:
    """Return a bundle's folder: by the folder's name, as a path, or by the name in its manifest, in this order."""
    asked, bundles = os.fspath(name), installed()
    by_name = {bundle.name: bundle.folder for bundle in bundles}
    if asked in by_name:
        return by_name[asked]
    try:
        folder = Path(name).expanduser()
        if _has_manifest(folder):
            return folder
        is_folder = folder.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long for a path, a NUL in it, or no such user's home
        folder, is_folder = Path(), False
    names = {bundle.name: _name_in_manifest(bundle.folder) for bundle in bundles}
    called = [known for known, inner in names.items() if inner == asked]
    if len(called) > 1:
        raise BundleNotFoundError(
            f"{len(called)} installed bundles are called {asked!r}: {', '.join(called)}; give one of these names"
        )
    if called:
        return by_name[called[0]]
    if is_folder and not os.access(folder, os.R_OK | os.X_OK):
        raise BundleNotFoundError(f"{folder}: no permission to read this folder; change its permissions or copy it")
    if is_folder:
        raise BundleNotFoundError(f"{folder}: not a bundle: there is no {MANIFEST_NAME} in it")
    have = ", ".join(both_names(known, inner) for known, inner in names.items()) or "none"
    raise BundleNotFoundError(
        f"no bundle {shortened(asked, 100)!r}; installed are: {have}. --bundle also takes a folder; "
        "'aesedge export CHECKPOINT' makes one"
    )


def both_names(name: str, name_in_manifest: str) -> str:
    """Return the names that a bundle can be opened by, in one text."""
    return f"{name} ({name_in_manifest})" if name_in_manifest not in {"", name} else name


def _name_in_manifest(folder: Path) -> str:
    try:
        return _read(folder, check=False).name
    except BundleError:
        return ""
