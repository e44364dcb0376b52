"""Two processes at once on one cache folder, one of them killed the second time; knows processes, not what they do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aesedge.cache import DiskStore
from aesedge.doctor.damage import KINDS
from aesedge.doctor.difference import Check, Difference, Limits, largest
from aesedge.doctor.probe import Seen, between
from aesedge.doctor.remarks import caught_remarks
from aesedge.doctor.visitor import N_ROUNDS
from aesedge.likelihood import Likelihood
from aesedge.rating import Rating

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.doctor.patient import Cold, Patient

GROUP = "processes"
_START = "import sys; from aesedge.doctor.visitor import main; sys.exit(main())"
_LEAST_PATIENCE_S = 60.0


class Unfit(Exception):  # noqa: N818 (no error: this machine has no room for two)
    """Two models at once do not fit the memory."""


class Harmed(Exception):  # noqa: N818 (no error: it is what is looked for)
    """A process did not do what it should; the text says what."""


def visited(
    patient: Patient, cold: Cold, limits: Limits, photos: Sequence[Path], show: Callable[[float], None]
) -> list[Check]:
    """Have two processes use a folder at once; then two more, of which one is killed."""
    checks = []
    for i, kill in enumerate((False, True)):
        folder = patient.new_folder()
        name = "two processes, one killed" if kill else "two processes on one folder"
        try:
            found, problem = _visit(patient, cold, photos, folder, kill=kill)
        except Unfit as unfit:
            checks.append(Check(GROUP, name, Difference(), limits, skipped=str(unfit)))
        else:
            checks.append(Check(GROUP, name, found, limits, problem or unsound(folder) or limits.problem(found)))
        show((i + 1) / 2)
    return checks


def _visit(patient: Patient, cold: Cold, photos: Sequence[Path], folder: Path, *, kill: bool) -> tuple[Difference, str]:
    """Return how far their answers are off, and what else is wrong."""
    n = len(photos) * N_ROUNDS
    patience_s = _LEAST_PATIENCE_S + 20 * n * cold.took_s
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(Visitor(patient, photos, folder, for_ever=for_ever, patience_s=patience_s))
            for for_ever in (False, kill)
        )
        try:
            one.wait_until_ready()
            other.wait_until_ready()
            seen = _killed_while_it_writes(one, other, n) if kill else _together(one, other, n)
        except Harmed as harm:
            return Difference(), str(harm)
    return largest(between(read, cold.seen(path)) for path, read in seen), ""


def _together(one: Visitor, other: Visitor, n: int) -> list[tuple[Path, Seen]]:
    one.tell("go")
    other.tell("go")
    return one.read(n) + other.read(n)


def _killed_while_it_writes(one: Visitor, other: Visitor, n: int) -> list[tuple[Path, Seen]]:
    """Kill the other, which writes without end by then, when the one has begun; return what the one read."""
    other.tell("go")
    seen = other.read(n)
    one.tell("go")
    seen += one.read(1)
    if other.ended():
        raise Harmed("the process that was to be killed ended by itself")
    other.kill()
    return seen + one.read(n - 1)


class Visitor:
    """One process; ended at the end of the ``with``, whatever happens.

    Args:
        patient: the model.
        photos: what it looks at.
        folder: the caches.
        for_ever: whether it goes on writing until it is killed.
        patience_s: how long it may take.
    """

    def __init__(
        self, patient: Patient, photos: Sequence[Path], folder: Path, *, for_ever: bool, patience_s: float
    ) -> None:
        self._patience_s = patience_s
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter, and a program of ours)
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._alarm = threading.Timer(patience_s, self._process.kill)
        self._alarm.daemon = True
        self._alarm.start()
        options = dataclasses.asdict(patient.keeping(folder))
        order = {
            "bundle": str(patient.bundle.folder),
            "options": {**options, "cache_folder": str(folder)},
            "photos": [str(path) for path in photos],
            "for_ever": for_ever,
        }
        self.tell(json.dumps(order))

    def tell(self, line: str) -> None:
        """Write a line for it to read."""
        assert self._process.stdin is not None  # noqa: S101 (for mypy)
        with contextlib.suppress(OSError):  # it is gone: what is read next says so
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        """Wait until its model stands."""
        self._line()

    def read(self, n: int) -> list[tuple[Path, Seen]]:
        """Return the next things that it read of photos."""
        found = []
        for line in (self._line() for _ in range(n)):
            text = Likelihood(tuple(line["nll"]), line["digest"])
            found.append((Path(line["photo"]), Seen(text, Rating(**line["rating"]))))
        return found

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 (for mypy)
        text = self._process.stdout.readline()
        if not text.endswith("\n"):
            code = self._process.wait()
            raise Harmed(
                f"a process ended with code {code} in the middle, or took longer than {self._patience_s:.0f} s"
            )
        line: dict[str, Any] = json.loads(text)
        if line.get("unfit"):
            raise Unfit(f"two models at once do not fit: {line['error']}")
        if "error" in line:
            raise Harmed(f"a process failed: {line['error']}")
        return line

    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._alarm.cancel()
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def unsound(folder: Path) -> str:
    """Return what is wrong with the entries of a cache folder, or an empty text."""
    for kind in KINDS:
        with caught_remarks() as remarks:
            store = DiskStore(folder / kind, kind=kind, budget_bytes=None)
            entries = store.entries()
            lost = [entry.key for entry in entries if store.get(entry.key) is None]
        if lost or remarks:
            return f"{kind}: {remarks[0] if remarks else f'{len(lost)} entries cannot be read'}"
        if not entries:
            return f"{kind}: nothing was kept, so this proves nothing"
        left = [path.name for path in (folder / kind).glob(".*.part")]
        if left:
            return f"{kind}: half-written files were not removed: {', '.join(left)}"
    return ""
