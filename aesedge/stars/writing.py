"""Write planned changes: each group is in the journal before its first file is changed."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aesedge.errors import AesedgeError
from aesedge.system.ordered_map import batched, map_ordered
from aesedge.xmp.file_change import FileChange, is_offer, take_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aesedge.stars.plan import PhotoPlan
    from aesedge.xmp.journal import FileEdit, Journal, Run

_IN_A_GROUP = 256
_AT_ONCE = 8
"""Files that are written at once: a disk syncs several as fast as one."""


@dataclass
class WriteResult:
    """What a run has written."""

    run: int | None = None
    """Its number in the journal; None if it has written nothing."""
    n_new: int = 0
    n_edited: int = 0
    failed: list[tuple[PhotoPlan, AesedgeError]] = field(default_factory=list)


def write_plans(
    plans: Iterable[PhotoPlan],
    journal: Journal,
    command: str,
    done: Callable[[PhotoPlan, list[FileChange], AesedgeError | None], None],
) -> WriteResult:
    """Write the planned files.

    Args:
        plans: one for each picture; they are made as they are taken.
        journal: remembers every edit.
        command: what the user typed, for the list of runs.
        done: called for each picture with its plan, the files that were written, and what went wrong.
    """
    result = WriteResult()
    for group in batched(plans, _IN_A_GROUP):
        journal.remember_people(seen for plan in group for seen in plan.people)
        changes = [change for plan in group for change in plan.changes]
        if changes:
            result.run = journal.begin_run(command) if result.run is None else result.run
            journal.record(result.run, [change.journal_entry() for change in changes])
        outcomes = iter(map_ordered(changes, FileChange.make, at_once=_AT_ONCE))
        for plan in group:
            error: AesedgeError | None = plan.error
            written = []
            for change in plan.changes:
                _, outcome = next(outcomes)
                if isinstance(outcome, AesedgeError):
                    error = outcome
                else:
                    written.append(change)
            result.n_new += sum(change.is_new for change in written)
            result.n_edited += sum(not change.is_new for change in written)
            if error is not None:
                result.failed.append((plan, error))
            done(plan, written, error)
        list(outcomes)
    return result


def undo_run(journal: Journal, run: Run, done: Callable[[FileEdit, str | AesedgeError], None]) -> None:
    """Take back all edits of a run; a run stays in the list until nothing of it failed.

    Args:
        journal: which knows it.
        run: the run.
        done: called with each edit and how it was undone, see :func:`~aesedge.xmp.file_change.take_back`.
    """
    n_failed = 0
    undone = functools.partial(take_back, people=journal.people())
    for made, outcome in map_ordered(journal.edits(run.id), undone, at_once=_AT_ONCE):
        n_failed += isinstance(outcome, AesedgeError)
        if outcome in {"restored", "removed"} and not is_offer(made):
            journal.forget_people(made.path)
        done(made, outcome)
    if not n_failed:
        journal.mark_undone(run.id)
