"""Faults around cache files: damaged ones, which must not be believed, and two processes on one folder.

Each damage is done to a photo's embeddings, to its pinned KV and to the text before the image, all at once: the photo
must then be as new, its answer right, and no damaged file left on the disk. Of two processes, the second time, one is
killed while it writes.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import struct
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.checksums import sha256
from aesedge.cache import DiskStore
from aesedge.cache.entry_file import FORMAT_VERSION, MAGIC
from aesedge.cache.lru_index import entry_path
from aesedge.doctor import probe
from aesedge.doctor.difference import Check, Difference, Limits, largest
from aesedge.doctor.probe import Seen, between, caught_warnings
from aesedge.engine.model import Model
from aesedge.errors import AesedgeError, MemoryFitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path
    from typing import Literal

    from aesedge.config.options import Options
    from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference

    Kind = Literal["embeddings", "kv"]

KINDS: tuple[Kind, Kind] = ("embeddings", "kv")
N_ROUNDS = 2
"""How often each process looks at each photo: once it may be new, then it is known."""
_HEADER_AT = 64
"""Somewhere in the header: after what every file begins with, before the payload."""
_LEAST_PATIENCE_S = 60.0


class Files(NamedTuple):
    """What a damaged file is made from."""

    own: bytes
    """The sound file."""
    of_other_kind: bytes
    """The same photo's, of the other kind."""
    of_other_photo: bytes
    """Another photo's, of the same kind."""


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[Files], bytes]] = {
    "cut short": lambda files: files.own[: len(files.own) * 2 // 3],
    "empty": lambda _files: b"",
    "a bit of the header flipped": lambda files: _flipped(files.own, _HEADER_AT),
    "a bit of the content flipped": lambda files: _flipped(files.own, len(files.own) * 3 // 4),
    "another photo's file": lambda files: files.of_other_photo,
    "another kind's file": lambda files: files.of_other_kind,
    "an older version's file": lambda f: MAGIC + struct.pack("<I", FORMAT_VERSION - 1) + f.own[len(MAGIC) + 4 :],
}


def damaged(
    under_test: BundleUnderTest,
    cold: ColdReference,
    limits: Limits,
    photos: Sequence[Path],
    show: Callable[[float], None],
) -> list[Check]:
    """Do every damage to the files of the first photo, and ask about it."""
    sound, other = (_keep(under_test, path) for path in photos[:2])
    checks = []
    for i, (name, damage) in enumerate(DAMAGES.items()):
        folder = under_test.new_folder()
        shutil.copytree(sound, folder)
        found, problem = _ask(under_test, cold, photos[0], folder, _damage(folder, other, damage))
        checks.append(Check("files", name, found, limits, problem or limits.problem(found)))
        shutil.rmtree(folder)
        show((i + 1) / len(DAMAGES))
    return checks


def _keep(under_test: BundleUnderTest, path: Path) -> Path:
    """Keep everything about a photo on disk; return where."""
    folder = under_test.new_folder()
    with under_test.kept(folder) as model, model.look(path) as photo:
        photo.pin()
    return folder


def _files(folder: Path) -> dict[tuple[Kind, bool], Path]:
    """Return the cache files in a folder of one photo, by kind and whether they are pinned."""
    return {
        (kind, entry.pinned): entry_path(folder / kind, entry.key, pinned=entry.pinned)
        for kind in KINDS
        for entry in DiskStore(folder / kind, kind=kind, budget_bytes=None).entries()
    }


def _damage(folder: Path, other: Path, damage: Callable[[Files], bytes]) -> dict[Path, str]:
    """Replace every file; return the SHA-256 of the replacements."""
    files, others, made = _files(folder), _files(other), {}
    own = {place: path.read_bytes() for place, path in files.items()}
    for (kind, pinned), path in files.items():
        of_other_kind = own["kv", True] if kind == "embeddings" else own["embeddings", False]
        stranger = others[kind, kind == "kv"].read_bytes()  # the text before the image is the same for all photos
        path.write_bytes(damage(Files(own[kind, pinned], of_other_kind, stranger)))
        made[path] = sha256(path)
    return made


def _ask(
    under_test: BundleUnderTest, cold: ColdReference, path: Path, folder: Path, made: dict[Path, str]
) -> tuple[Difference, str]:
    """Ask about the photo over damaged files; return how far the answer is off, and what else is wrong."""
    with caught_warnings() as warnings, under_test.kept(folder) as model, model.look(path) as photo:
        state = photo.cache_state
        found = between(probe.probe_photo(model, photo), cold.seen(path))
    if state != "cold":
        return found, f"a damaged file was believed: the photo was taken from {state}"
    left = [file for file, digest in made.items() if file.exists() and sha256(file) == digest]
    if left:
        return found, f"still on disk: {left[0].parent.name}/{left[0].name}"
    for kind in KINDS:
        n = sum(str(folder / kind) in warning for warning in warnings)
        if n != 1:
            return found, f"{n} remarks about damaged {kind} instead of one"
    return found, ""


class NotEnoughMemory(Exception):  # noqa: N818 (no error: this machine has no room for two)
    """Two models at once do not fit the memory."""


class WorkerFailed(Exception):  # noqa: N818 (no error: it is what is looked for)
    """A process did not do what it should; the text says what."""


def check_concurrency(
    under_test: BundleUnderTest,
    cold: ColdReference,
    limits: Limits,
    photos: Sequence[Path],
    show: Callable[[float], None],
) -> list[Check]:
    """Have two processes use a folder at once; then two more, of which one is killed."""
    checks = []
    for i, kill in enumerate((False, True)):
        folder = under_test.new_folder()
        found, problem, skipped = Difference(), "", ""
        try:
            seen = _run(under_test, cold, photos, folder, kill=kill)
            found = largest(between(read, cold.seen(path)) for path, read in seen)
            problem = unsound(folder) or limits.problem(found)
        except NotEnoughMemory as error:
            skipped = str(error)
        except WorkerFailed as error:
            problem = str(error)
        name = "two processes, one killed" if kill else "two processes on one folder"
        checks.append(Check("processes", name, found, limits, problem, skipped))
        show((i + 1) / 2)
    return checks


def _run(
    under_test: BundleUnderTest, cold: ColdReference, photos: Sequence[Path], folder: Path, *, kill: bool
) -> list[tuple[Path, Seen]]:
    """Return what both processes read of the photos."""
    n = len(photos) * N_ROUNDS
    deadline = time.monotonic() + _LEAST_PATIENCE_S + 20 * n * cold.took_s
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(_Worker(under_test, photos, folder, deadline, endless=endless))
            for endless in (False, kill)
        )
        one.next()  # its model stands
        other.next()
        other.connection.send("go")
        if not kill:
            one.connection.send("go")
            return [one.next() for _ in range(n)] + [other.next() for _ in range(n)]
        seen = [other.next() for _ in range(n)]  # and from here on it writes without end
        one.connection.send("go")
        seen.append(one.next())
        if not other.process.is_alive():
            raise WorkerFailed("the process that was to be killed ended by itself")
        other.process.kill()
        return seen + [one.next() for _ in range(n - 1)]


class _Worker:
    """One process; ended at the end of the ``with``, whatever happens."""

    def __init__(
        self, under_test: BundleUnderTest, photos: Sequence[Path], folder: Path, deadline: float, *, endless: bool
    ) -> None:
        self._deadline = deadline
        context = multiprocessing.get_context("spawn")  # a fork of llama.cpp's threads would hang
        self.connection, theirs = context.Pipe()
        given = (theirs, str(under_test.bundle.folder), under_test.keeping(folder), list(photos), endless)
        self.process = context.Process(target=use_cache, args=given, daemon=True)
        self.process.start()
        theirs.close()

    def next(self) -> tuple[Path, Seen]:
        """Return what it tells next."""
        try:
            if not self.connection.poll(max(0.0, self._deadline - time.monotonic())):
                raise WorkerFailed("a process took too long")
            told = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise WorkerFailed(f"a process ended with code {self.process.exitcode} in the middle") from None
        if isinstance(told, dict):
            if told["unfit"]:
                raise NotEnoughMemory(f"two models at once do not fit: {told['error']}")
            raise WorkerFailed(f"a process failed: {told['error']}")
        found: tuple[Path, Seen] = told
        return found

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def use_cache(connection: Connection, bundle: str, options: Options, photos: Sequence[Path], endless: bool) -> None:  # noqa: FBT001 (arguments of a process)
    """Run as one of the processes: tell when the model stands, wait, read photos and tell the readings."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the examination tells what is wrong
    try:
        with Model(open_bundle(bundle), options) as model:
            connection.send("ready")
            connection.recv()
            for path in list(photos) * N_ROUNDS:
                with model.look(path) as photo:
                    seen = probe.probe_photo(model, photo)
                    photo.pin()
                connection.send((path, seen))
            while endless:  # write the same files anew, so that it is killed while it writes
                for path in photos:
                    with model.look(path) as photo:
                        photo.unpin()
                        photo.pin()
    except AesedgeError as error:
        connection.send({"error": str(error), "unfit": isinstance(error, MemoryFitError)})


def unsound(folder: Path) -> str:
    """Return what is wrong with the entries of a cache folder, or an empty text."""
    for kind in KINDS:
        with caught_warnings() as warnings:
            store = DiskStore(folder / kind, kind=kind, budget_bytes=None)
            entries = store.entries()
            lost = [entry.key for entry in entries if store.get(entry.key) is None]
        if lost or warnings:
            return f"{kind}: {warnings[0] if warnings else f'{len(lost)} entries cannot be read'}"
        if not entries:
            return f"{kind}: nothing was kept, so this proves nothing"
        left = [path.name for path in (folder / kind).glob(".*.part")]
        if left:
            return f"{kind}: half-written files were not removed: {', '.join(left)}"
    return ""
