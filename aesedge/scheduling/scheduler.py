"""Run many jobs on one KV cache: batch what they request next (continuous batching).

One thread runs all jobs; no other touches the context. Before every batch new jobs join, and finished ones leave.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from aesedge.errors import ContextFullError, UsageError
from aesedge.llm.context import Aborted
from aesedge.scheduling.requests import DecodeTokens, Preempted, PrefillEmbeddings, Priority, Reserve, WaitFor
from aesedge.scheduling.task import JobFuture, Task
from aesedge.system.fair_lock import FairLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.llm import Context
    from aesedge.scheduling.kv_cache import SequenceCache
    from aesedge.scheduling.requests import Job, Request

T = TypeVar("T")


class Scheduler:
    """The one thread that uses a context.

    Args:
        context: the KV cache; the caller closes it, after the scheduler.
        sequences: its sequences.
        lock: held during every batch.
        n_ubatch: positions of one image or of one text in a batch.
    """

    def __init__(
        self, context: Context, sequences: SequenceCache, lock: FairLock | None = None, *, n_ubatch: int
    ) -> None:
        self._context = context
        self._sequences = sequences
        self._lock = lock or FairLock()
        self._n_ubatch = n_ubatch
        self._changed = threading.Condition()
        self._inbox: list[Task] = []
        self._tasks: list[Task] = []
        self._in_batch: list[Task] = []
        self._embeddings_next = True
        self._aborted = False
        self._closing = False
        self._count = itertools.count()
        self._thread = threading.Thread(target=self._run, name="aesedge-scheduler", daemon=True)
        self._thread.start()
        # A daemon thread that computes while the interpreter goes would crash it.
        self._finalizer = weakref.finalize(self._thread, _close_at_exit, weakref.ref(self))

    def submit(
        self, job: Job[T], *, priority: Priority = Priority.INTERACTIVE, preemptible: bool = False
    ) -> JobFuture[T]:
        """Queue a job.

        Args:
            job: a generator that was not started.
            priority: which jobs go first.
            preemptible: whether it handles :class:`Preempted`.

        Raises:
            UsageError: the model was closed.
        """
        return self.submit_all([job], priority=priority, preemptible=preemptible)[0]

    def submit_all(
        self, jobs: Sequence[Job[T]], *, priority: Priority = Priority.INTERACTIVE, preemptible: bool = False
    ) -> list[JobFuture[T]]:
        """Queue several jobs at once, so that they share batches from the first one on; see :meth:`submit`."""
        tasks = [Task(job, JobFuture[T](priority), next(self._count), preemptible=preemptible) for job in jobs]
        for task in tasks:
            task.future.on_cancel(partial(self._cancel, task))
        with self._changed:
            if self._closing:
                for job in jobs:
                    job.close()
                raise UsageError("this model was closed")
            self._inbox += tasks
            self._changed.notify_all()
        return [task.future for task in tasks]

    def call(self, function: Callable[[], T], *, priority: Priority = Priority.INTERACTIVE) -> JobFuture[T]:
        """Run a function between two batches, on the scheduler's thread."""

        def job() -> Job[T]:
            yield from ()  # a generator without requests
            return function()

        return self.submit(job(), priority=priority)

    def close(self) -> None:
        """Stop all jobs; waiting callers get a UsageError. Closing twice does nothing."""
        with self._changed:
            self._closing = True
            for task in self._inbox + self._tasks:
                task.cancelled = True
            if self._in_batch:
                self._context.abort.set()
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _cancel(self, task: Task) -> None:
        with self._changed:
            task.cancelled = True
            if self._in_batch and all(t.cancelled for t in self._in_batch):
                self._context.abort.set()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._inbox or self._tasks or self._closing):
                    self._changed.wait()
                arrived, self._inbox = self._inbox, []
                closing = self._closing
                self._tasks = sorted(self._tasks + arrived, key=lambda task: task.order)
            for task in [t for t in self._tasks if t.cancelled]:
                self._end(task)
            for task in arrived:
                if not task.future.done():
                    self._resume(task, None)
            if closing and not self._tasks:
                return
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 (a bug of ours must not leave callers waiting)
                for task in list(self._tasks):
                    self._fail(task, error)

    def _step(self) -> None:
        """Resume jobs whose requests need no batch, then run one batch."""
        resumed = self._resume_waiting()
        embeddings = [t for t in self._tasks if isinstance(t.request, PrefillEmbeddings)]
        tokens = [t for t in self._tasks if isinstance(t.request, DecodeTokens)]
        first = min([*embeddings[:1], *tokens[:1]], key=lambda t: t.order[0], default=None)
        if first is not None:
            tied = embeddings and tokens and embeddings[0].order[0] == tokens[0].order[0]
            first_embeddings = self._embeddings_next if tied else isinstance(first.request, PrefillEmbeddings)
            self._embeddings_next = not first_embeddings
            if first_embeddings:
                self._append_embeddings(embeddings[0])
            else:
                self._append_tokens(tokens)
        elif not resumed:
            self._fail_newest()

    def _resume_waiting(self) -> bool:
        """Resume jobs waiting for a condition or for KV cells, oldest first; return True if any was resumed."""
        resumed = False
        for task in list(self._tasks):
            if isinstance(task.request, WaitFor) and task.request.holds():
                self._resume(task, None)
                resumed = True
        for task in list(self._tasks):
            request = task.request
            if isinstance(request, Reserve):
                if not self._make_room(request):
                    break  # newer jobs must not take the cells that it waits for
                task.n_reserved = request.n_cells
                self._resume(task, self._sequences.allocate(request.n_sequences))
                resumed = True
        return resumed

    def _make_room(self, request: Reserve) -> bool:
        """Evict what is not in use until a request fits; return False if it cannot fit now."""
        while self._n_unreserved() < request.n_cells or self._sequences.n_sequences_free < request.n_sequences:
            if not self._sequences.evict_one():
                return False
        return True

    def _n_unreserved(self) -> int:
        return self._context.n_free - sum(t.n_reserved for t in self._tasks)

    def _fail_newest(self) -> None:
        """Every job waits for KV cells and none can be freed: fail the newest."""
        waiting = [t for t in self._tasks if isinstance(t.request, Reserve)]
        if not waiting:
            with self._changed:  # only WaitFor is left, on jobs that were cancelled or are about to come
                if self._tasks and not self._inbox:
                    self._changed.wait(0.01)
            return
        request = waiting[-1].request
        assert isinstance(request, Reserve)  # noqa: S101 (for mypy)
        error = ContextFullError(
            f"{request.n_cells} more positions and {request.n_sequences} sequences do not fit: "
            f"{max(0, self._n_unreserved())} of {self._context.n_ctx} and {self._sequences.n_sequences_free} are "
            "free; ask something shorter, close conversations, or use a larger --ctx"
        )
        self._fail(waiting[-1], error)

    def _append_embeddings(self, task: Task) -> None:
        request = task.request
        assert isinstance(request, PrefillEmbeddings)  # noqa: S101 (for mypy)
        n = request.n_next(self._n_ubatch)

        def run() -> None:
            self._context.prefill_embeddings_many([(piece.seq_id, piece.rows) for piece in request.slices(n)])

        if not self._have_cells(task, n) or not self._decode([task], run):
            return
        request.n_done += n
        task.n_reserved = max(0, task.n_reserved - n)
        if not request.n_left:
            self._resume(task, None)

    def _append_tokens(self, tasks: list[Task]) -> None:
        """Run one batch: the oldest jobs of the highest priority, and single tokens of the others."""
        left = self._context.n_batch
        top = tasks[0].order[0]
        chosen: list[tuple[Task, DecodeTokens, int]] = []
        for task in tasks:
            request = task.request
            if not isinstance(request, DecodeTokens):  # it has just been preempted
                continue
            n = min(request.n_next(self._n_ubatch), left)
            if n < 1 or (task.order[0] != top and request.n_left > 1):
                continue
            if self._have_cells(task, n, planned=sum(n for _, _, n in chosen)):
                chosen.append((task, request, n))
                left -= n
        # Making room for one may have preempted another.
        chosen = [(task, request, n) for task, request, n in chosen if task.request is request]
        if chosen:
            self._append_chosen(chosen)

    def _append_chosen(self, chosen: list[tuple[Task, DecodeTokens, int]]) -> None:
        slices = [request.slices(n) for _, request, n in chosen]
        everything = [piece for of_one in slices for piece in of_one]
        rows: list[int] = []

        def run() -> None:
            parts = [(piece.seq_id, piece.rows) for piece in everything]
            rows[:] = self._context.append(parts, [piece.is_end for piece in everything])

        if not self._decode([task for task, _, _ in chosen], run, tell=len(chosen) == 1):
            for one in chosen if len(chosen) > 1 and not self._aborted else []:  # which of them fails?
                self._append_chosen([one])
            return
        answers: list[tuple[Task, Any]] = []
        next_row = iter(rows)
        for (task, request, n), of_one in zip(chosen, slices, strict=True):
            task.n_reserved = max(0, task.n_reserved - n)
            request.n_done += n
            for piece in of_one:
                row = next(next_row)
                if piece.is_end and request.fetch:
                    request.logits.append(self._context.logits(row))
            if not request.n_left:
                answers.append((task, np.stack(request.logits) if request.fetch else row))
        for task, answer in answers:
            self._resume(task, answer)

    def _have_cells(self, task: Task, n: int, planned: int = 0) -> bool:
        """Make room for n tokens of a task beside the planned ones; return False if it has to wait, or failed."""
        while self._n_unreserved() + min(task.n_reserved, n) < n + planned:
            if self._sequences.evict_one():
                continue
            victims = [t for t in self._tasks if t.is_preemptible and t.order > task.order]
            if victims:
                self._preempt(victims[-1])
            elif len([t for t in self._tasks if not isinstance(t.request, Reserve | WaitFor)]) > 1 and planned:
                return False  # the others of this batch go first
            elif task.is_preemptible and any(t is not task and t.request is not None for t in self._tasks):
                self._preempt(task)
                return False
            else:
                n_free, n_ctx = self._context.n_free, self._context.n_ctx
                error = f"{n} more positions do not fit: {n_free} of {n_ctx} are free; use a larger --ctx"
                self._fail(task, ContextFullError(error))
                return False
        return True

    def _decode(self, tasks: list[Task], run: Callable[[], None], *, tell: bool = True) -> bool:
        """Run a batch and return whether it succeeded; with ``tell``, fail its tasks if it did not."""
        self._aborted = False
        with self._changed:
            if all(t.cancelled for t in tasks):
                self._aborted = True
                return False
            self._in_batch = tasks
        try:
            with self._lock.hold():
                run()
        except Aborted:
            self._aborted = True
            return False
        except Exception as error:  # noqa: BLE001 (raised where the result is awaited)
            for task in tasks if tell else []:
                self._fail(task, error)
            return False
        finally:
            with self._changed:
                self._in_batch = []
                self._context.abort.clear()
        return True

    def _preempt(self, task: Task) -> None:
        """Have a task free its cells, and continue when there is room again."""
        task.n_reserved = 0
        self._move(task, lambda: task.job.throw(Preempted()))

    def _fail(self, task: Task, error: Exception) -> None:
        self._move(task, lambda: task.job.throw(error))

    def _resume(self, task: Task, answer: object) -> None:
        self._move(task, lambda: task.job.send(answer))

    def _move(self, task: Task, go: Callable[[], Request]) -> None:
        """Run a job to its next request, or to its end."""
        try:
            task.request = go()
            if isinstance(task.request, Reserve):  # which replaces the one before
                task.n_reserved = 0
        except StopIteration as stop:
            self._end(task, result=stop.value)
        except BaseException as error:  # noqa: BLE001 (raised where the result is awaited)
            self._end(task, error=error)

    def _end(self, task: Task, *, result: object = None, error: BaseException | None = None) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
        task.request, task.n_reserved = None, 0
        if task.cancelled and error is None:
            try:
                task.job.close()
            except BaseException as raised:  # noqa: BLE001 (raised where the result is awaited)
                error = raised
            why = "the model was closed" if self._closing else "cancelled"
            error = error or UsageError(f"this was stopped: {why}")
        if error is not None:
            task.future.set_exception(error)
        else:
            task.future.set_result(result)


def _close_at_exit(scheduler: weakref.ref[Scheduler]) -> None:
    if (alive := scheduler()) is not None:
        alive.close()
