"""Bundles on disk: where they are, which files they have, whether those are intact; knows files, not what runs them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from aesedge import hashes
from aesedge.errors import BundleError, BundleIntegrityError, BundleNotFoundError
from aesedge.manifest import MANIFEST_NAME, BundleFile, Manifest, Role, format_manifest, parse_manifest
from aesedge.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POCKET = "pocket"
_POCKET_FOLDER = Path(__file__).parent / POCKET


def data_folder() -> Path:
    """Where bundles live: ``AESEDGE_HOME``, or the platform's folder for user data."""
    return Path(os.environ.get("AESEDGE_HOME") or platformdirs.user_data_dir("aesedge", appauthor=False))


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest was read and whose files are there."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name that users type."""
        return self.manifest.name

    def path(self, role: Role, type_: str) -> Path:
        """Return the file of a role and type (any case), with its hash checked.

        Raises:
            BundleNotFoundError: the bundle has no such type; the message lists those it has.
            BundleIntegrityError: the content is not what the manifest says.
        """
        file = self.manifest.file(role, type_)
        if file is None:
            what = "GGUF type" if role == "llm" else "vision precision"
            have = ", ".join(t.lower() for t in self.manifest.types(role))
            raise BundleNotFoundError(f"bundle {self.name!r} has no {what} {type_!r}; it has: {have}")
        self._check_hash(file, hashes.remembered_sha256(self.folder / file.path))
        return self.folder / file.path

    def _check_hash(self, file: BundleFile, sha256: str) -> None:
        if sha256 != file.sha256:
            raise BundleIntegrityError(
                f"{self.folder / file.path}: altered: SHA-256 is {sha256[:12]}…, the manifest says "
                f"{file.sha256[:12]}…; install or export the bundle again"
            )

    def verify(self, progress: Callable[[int], None] | None = None) -> Iterator[tuple[BundleFile, str]]:
        """Read every file anew and compare it with the manifest.

        Args:
            progress: called with the number of bytes read since the last call.

        Yields:
            Each file with an empty text, or with what is wrong.
        """
        for file in self.manifest.files:
            try:
                _check_size(self.folder, file)
                self._check_hash(file, hashes.sha256(self.folder / file.path, progress))
            except BundleIntegrityError as error:
                yield file, str(error)
            else:
                yield file, ""


def open_bundle(name: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's manifest and see that its files are there.

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
        data = path.read_bytes()
    except OSError as error:
        raise BundleNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    manifest = parse_manifest(data, str(path))
    if check:
        for file in manifest.files:
            _check_size(folder, file)
    return Bundle(folder, manifest)


def replace_manifest(bundle: Bundle, manifest: Manifest) -> Bundle:
    """Give a bundle another manifest of the same files, whole or not at all; returns the bundle with it.

    Raises:
        BundleError: the folder cannot be written.
    """
    path = bundle.folder / MANIFEST_NAME
    try:
        write_whole(path, format_manifest(manifest))
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be written: {error.strerror}; copy the bundle to a folder of your own and name that"
        ) from None
    return Bundle(bundle.folder, manifest)


def read_unchecked(name: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's manifest without looking at its files, for ``verify`` to look at all of them."""
    return _read(_find(name), check=False)


def _check_size(folder: Path, file: BundleFile) -> None:
    path = folder / file.path
    try:
        n_bytes = path.stat().st_size
    except OSError:
        raise BundleIntegrityError(f"{path}: missing; install or export the bundle again") from None
    if n_bytes != file.n_bytes:
        raise BundleIntegrityError(
            f"{path}: altered: {n_bytes} bytes, the manifest says {file.n_bytes}; install or export the bundle again"
        )


def installed_folders() -> list[Path]:
    """Return the folders of all bundles that can be named, the embedded one first."""
    home = data_folder()
    found = sorted(p.parent for p in home.glob(f"*/{MANIFEST_NAME}")) if home.is_dir() else []
    embedded = [_POCKET_FOLDER] if (_POCKET_FOLDER / MANIFEST_NAME).is_file() else []
    return embedded + found


def _find(name: str | os.PathLike[str]) -> Path:
    folders = installed_folders()
    by_name = {folder.name: folder for folder in reversed(folders)}
    if os.fspath(name) in by_name:
        return by_name[os.fspath(name)]
    folder = Path(name).expanduser()
    if (folder / MANIFEST_NAME).is_file():
        return folder
    if folder.is_dir():
        raise BundleNotFoundError(f"{folder}: no bundle: there is no {MANIFEST_NAME} in it")
    have = ", ".join(by_name) or "none"
    raise BundleNotFoundError(
        f"no bundle {os.fspath(name)!r}; installed are: {have}. --bundle also takes a folder; "
        "'aesedge export CHECKPOINT' makes one"
    )
