"""Store downloaded checkpoints on disk, each pinned to a commit."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import filelock
import msgspec

from aesedge.errors import DownloadError
from aesedge.system.paths import data_folder

from .checkpoint_files import needed_files
from .download import RepositoryInfo, download, n_partial_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .checkpoint_files import HubFile

FOLDER_NAME = "checkpoints"
"""Beside the bundles; it has no manifest and is not listed as one."""
_RECORD_NAME = "pull.json"
_POLL_S = 0.2

FileProgress = Callable[[str, int], None]
"""Called with what is being done and the number of bytes that are there."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a download was begun with; it stays the same until the checkpoint is removed."""

    asked: str
    """The revision that was asked for, empty for the default branch."""
    listing: RepositoryInfo


@dataclass(frozen=True)
class Download:
    """A repository's files at one commit, on their way to disk or there."""

    folder: Path
    listing: RepositoryInfo
    files: list[HubFile]
    """Those that an export reads."""

    @property
    def n_bytes(self) -> int:
        """Size when it is complete."""
        return sum(file.n_bytes for file in self.files)

    def n_present_bytes(self) -> int:
        """Return how many bytes are there, parts of files included."""
        whole = [path.stat().st_size for f in self.files if (path := self.folder / f.path).is_file()]
        return min(self.n_bytes, sum(whole) + n_partial_bytes(self.folder))

    def fetch(self, asked: str, progress: FileProgress) -> None:
        """Download what is missing and check every file.

        Args:
            asked: the revision that was asked for: asked again, it means this commit.
            progress: called about five times a second.

        Raises:
            DownloadError: see :func:`.hub.download`; what came is kept.
            OSError: the disk is full, or nothing may be written there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        record = msgspec.json.encode(Record(asked=asked, listing=self.listing))
        (self.folder / _RECORD_NAME).write_bytes(msgspec.json.format(record))
        for file in self.files:
            there = (self.folder / file.path).is_file()
            with _watched(self, f"checking {file.path}" if there else file.path, progress):
                download(self.listing.repository, self.listing.commit, file, self.folder)

    def drop(self) -> None:
        """Remove it from disk."""
        shutil.rmtree(self.folder)
        with contextlib.suppress(OSError):  # other commits of it are kept
            self.folder.parent.rmdir()


def store_folder(repository: str) -> Path:
    """Return where the commits of a repository are kept."""
    return data_folder() / FOLDER_NAME / repository.replace("/", "--")


def checkpoint_of(listing: RepositoryInfo) -> Download:
    """Return the place of a repository's commit on disk.

    Raises:
        DownloadError: it holds no checkpoint that could be exported.
    """
    folder = store_folder(listing.repository) / listing.commit
    return Download(folder, listing, needed_files(listing.repository, listing.files))


def pinned(repository: str, asked: str) -> Download | None:
    """Return the commit that an earlier download of the same revision took, whether it was finished or not."""
    records = sorted(store_folder(repository).glob(f"*/{_RECORD_NAME}"), key=lambda path: path.stat().st_mtime)
    for path in reversed(records):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except msgspec.DecodeError:  # a crash while it was written; the next download writes it anew
            continue
        if asked in {record.asked, record.listing.commit} and record.listing.repository == repository:
            return checkpoint_of(record.listing)
    return None


@contextlib.contextmanager
def alone(repository: str) -> Iterator[None]:
    """Keep a second process from downloading or exporting the same repository.

    Raises:
        DownloadError: there is one already.
    """
    folder = store_folder(repository).parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f".{repository.replace('/', '--')}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DownloadError(f"{repository}: another 'aesedge pull' is at work on it; wait until it is done") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _watched(checkpoint: Download, what: str, progress: FileProgress) -> Iterator[None]:
    """Report how much is on disk while the block runs: huggingface_hub tells it only to a bar of its own."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_S):
            with contextlib.suppress(OSError):  # a file was moved to its place meanwhile
                progress(what, checkpoint.n_present_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    progress(what, checkpoint.n_present_bytes())
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress(what, checkpoint.n_present_bytes())
