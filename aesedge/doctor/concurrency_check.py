"""Have two processes use one cache folder at once; the second time, one of them is killed while it writes."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aesedge.bundle.bundle import open_bundle
from aesedge.cache import DiskStore
from aesedge.doctor import probe
from aesedge.doctor.corruption import KINDS
from aesedge.doctor.difference import Check, Difference, Limits, largest
from aesedge.doctor.probe import Seen, between, caught_warnings
from aesedge.engine.model import Model
from aesedge.errors import AesedgeError, MemoryFitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from aesedge.config.options import Options
    from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference

GROUP = "processes"
N_ROUNDS = 2
"""How often each photo is looked at: once it may be new, then it is known."""
_LEAST_PATIENCE_S = 60.0


class NotEnoughMemory(Exception):  # noqa: N818 (no error: this machine has no room for two)
    """Two models at once do not fit the memory."""


class WorkerFailed(Exception):  # noqa: N818 (no error: it is what is looked for)
    """A process did not do what it should; the text says what."""


def check_concurrency(
    patient: BundleUnderTest, cold: ColdReference, limits: Limits, photos: Sequence[Path], show: Callable[[float], None]
) -> list[Check]:
    """Have two processes use a folder at once; then two more, of which one is killed."""
    checks = []
    for i, kill in enumerate((False, True)):
        folder = patient.new_folder()
        name = "two processes, one killed" if kill else "two processes on one folder"
        found, problem, skipped = Difference(), "", ""
        try:
            seen = _run(patient, cold, photos, folder, kill=kill)
            found = largest(between(read, cold.seen(path)) for path, read in seen)
            problem = unsound(folder) or limits.problem(found)
        except NotEnoughMemory as error:
            skipped = str(error)
        except WorkerFailed as error:
            problem = str(error)
        checks.append(Check(GROUP, name, found, limits, problem, skipped))
        show((i + 1) / 2)
    return checks


def _run(
    patient: BundleUnderTest, cold: ColdReference, photos: Sequence[Path], folder: Path, *, kill: bool
) -> list[tuple[Path, Seen]]:
    """Return what both processes read of the photos."""
    n = len(photos) * N_ROUNDS
    deadline = time.monotonic() + _LEAST_PATIENCE_S + 20 * n * cold.took_s
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(_Worker(patient, photos, folder, deadline, for_ever=for_ever))
            for for_ever in (False, kill)
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
        self, patient: BundleUnderTest, photos: Sequence[Path], folder: Path, deadline: float, *, for_ever: bool
    ) -> None:
        self._deadline = deadline
        context = multiprocessing.get_context("spawn")  # a fork of llama.cpp's threads would hang
        self.connection, theirs = context.Pipe()
        given = (theirs, str(patient.bundle.folder), patient.keeping(folder), list(photos), for_ever)
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


def use_cache(connection: Connection, bundle: str, options: Options, photos: Sequence[Path], for_ever: bool) -> None:  # noqa: FBT001 (arguments of a process)
    """Be one of the processes: tell when the model stands, wait, read photos and tell what was read."""
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
            while for_ever:  # write the same files anew, so that whoever ends this process ends it while it writes
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
