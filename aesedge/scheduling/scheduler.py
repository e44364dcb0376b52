"""Many pieces of work on one KV cache, side by side: batches what they want next; knows sequences and rows, no photos.

One thread runs all of it, and nobody else touches the context. Before every batch the work that came in meanwhile
joins, and what is finished leaves: continuous batching.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from aesedge.errors import ContextFullError, UsageError
from aesedge.llm.context import Aborted
from aesedge.scheduling.requests import DecodeTokens, Preempted, PrefillEmbeddings, Priority, Reserve, WaitFor
from aesedge.system.fair_lock import FairLock
from aesedge.system.ordered_map import wait_interruptible

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.llm import Context
    from aesedge.scheduling.requests import Job, Request

T = TypeVar("T")


class SequenceAllocator(Protocol):
    """Who knows which sequences are free, and what may leave the cache."""

    @property
    def n_sequences_free(self) -> int:
        """Sequences that nobody has."""

    def allocate(self, n: int) -> list[int]:
        """Take empty sequences."""

    def evict_one(self) -> bool:
        """Let what was not used for longest leave; False if everything is in use."""


class JobFuture(Future[T]):
    """Work that was handed in: a future whose ``cancel`` also stops work that is under way."""

    def __init__(self, priority: Priority) -> None:
        super().__init__()
        self.priority = priority
        self._stop: Callable[[JobFuture[Any]], None] = lambda _ticket: None

    def cancel(self) -> bool:
        """Have it stopped, within one batch; returns False if it is over already."""
        if self.done():
            return False
        self._stop(self)
        return True

    def wait(self) -> T:
        """Return the result; Ctrl-C while waiting stops the work."""
        try:
            return wait_interruptible(self)
        except BaseException:
            self.cancel()
            raise


class _Task:
    """Work under way."""

    def __init__(self, work: Job[Any], ticket: JobFuture[Any], arrival: int, *, preemptible: bool) -> None:
        self.work = work
        self.ticket = ticket
        self.order = (ticket.priority, arrival)
        self.preemptible = preemptible
        self.request: Request | None = None
        self.n_reserved = 0
        self.cancelled = False

    @property
    def is_preemptible(self) -> bool:
        """Whether it can be asked to make room now."""
        return self.preemptible and isinstance(self.request, DecodeTokens)


class Scheduler:
    """The one thread that works on a context.

    Args:
        context: the KV cache; whoever made it closes it, after this.
        keeper: its sequences.
        turns: whom to wait for before every batch.
        n_ubatch: positions of one image or of one text in a batch.
    """

    def __init__(
        self, context: Context, keeper: SequenceAllocator, turns: FairLock | None = None, *, n_ubatch: int
    ) -> None:
        self._context = context
        self._allocator = keeper
        self._lock = turns or FairLock()
        self._n_ubatch = n_ubatch
        self._changed = threading.Condition()
        self._inbox: list[_Task] = []
        self._tasks: list[_Task] = []
        self._in_batch: list[_Task] = []
        self._rows_turn = True
        self._aborted = False
        self._closing = False
        self._count = itertools.count()
        self._thread = threading.Thread(target=self._run, name="aesedge-scheduler", daemon=True)
        self._thread.start()
        # A daemon thread that computes while the interpreter goes would crash it.
        self._finalizer = weakref.finalize(self._thread, _close_at_exit, weakref.ref(self))

    def submit(
        self, work: Job[T], *, priority: Priority = Priority.INTERACTIVE, preemptible: bool = False
    ) -> JobFuture[T]:
        """Hand in work.

        Args:
            work: a generator that was not started.
            priority: who goes first.
            preemptible: whether it knows what to do about :class:`Preempted`.

        Raises:
            UsageError: the model was closed.
        """
        ticket: JobFuture[T] = JobFuture(priority)
        ticket.set_running_or_notify_cancel()
        task = _Task(work, ticket, next(self._count), preemptible=preemptible)
        ticket._stop = lambda _ticket: self._cancel(task)  # noqa: SLF001 (a ticket is the scheduler's own)
        with self._changed:
            if self._closing:
                work.close()
                raise UsageError("this model was closed")
            self._inbox.append(task)
            self._changed.notify_all()
        return ticket

    def call(self, function: Callable[[], T], *, priority: Priority = Priority.INTERACTIVE) -> JobFuture[T]:
        """Have a function run between two batches, on the thread that owns the context."""

        def work() -> Job[T]:
            yield from ()  # a generator that wants nothing
            return function()

        return self.submit(work(), priority=priority)

    def close(self) -> None:
        """Stop everything; who waits gets a UsageError. Closing twice does nothing."""
        with self._changed:
            self._closing = True
            for task in self._inbox + self._tasks:
                task.cancelled = True
            if self._in_batch:
                self._context.abort.set()
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _cancel(self, task: _Task) -> None:
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
                if not task.ticket.done():
                    self._resume(task, None)
            if closing and not self._tasks:
                return
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 (a mistake of ours must not leave anybody waiting for ever)
                for task in list(self._tasks):
                    self._fail(task, error)

    def _step(self) -> None:
        """Grant what can be granted, then run one batch."""
        granted = self._grant()
        waiting_rows = [t for t in self._tasks if isinstance(t.request, PrefillEmbeddings)]
        waiting_tokens = [t for t in self._tasks if isinstance(t.request, DecodeTokens)]
        first = min([*waiting_rows[:1], *waiting_tokens[:1]], key=lambda t: t.order[0], default=None)
        if first is not None:
            tied = waiting_rows and waiting_tokens and waiting_rows[0].order[0] == waiting_tokens[0].order[0]
            rows = self._rows_turn if tied else isinstance(first.request, PrefillEmbeddings)
            self._rows_turn = not rows
            if rows:
                self._append_rows(waiting_rows[0])
            else:
                self._append_tokens(waiting_tokens)
        elif not granted:
            self._nothing_moves()

    def _grant(self) -> bool:
        """Answer those who wait for others or for room, the first first; returns whether anybody was answered."""
        granted = False
        for task in list(self._tasks):
            if isinstance(task.request, WaitFor) and task.request.holds():
                self._resume(task, None)
                granted = True
        for task in list(self._tasks):
            room = task.request
            if isinstance(room, Reserve):
                if not self._find_room(room):
                    break  # those behind it must not take what it waits for
                task.n_reserved = room.n_cells
                self._resume(task, self._allocator.allocate(room.n_sequences))
                granted = True
        return granted

    def _find_room(self, room: Reserve) -> bool:
        while self._n_unreserved() < room.n_cells or self._allocator.n_sequences_free < room.n_sequences:
            if not self._allocator.evict_one():
                return False
        return True

    def _n_unreserved(self) -> int:
        return self._context.n_free - sum(t.n_reserved for t in self._tasks)

    def _nothing_moves(self) -> None:
        """Everybody waits for room, and nobody will give any: the last in line learns it."""
        waiting = [t for t in self._tasks if isinstance(t.request, Reserve)]
        if not waiting:
            with self._changed:  # only Until is left, for work that was cancelled or is about to come
                if self._tasks and not self._inbox:
                    self._changed.wait(0.01)
            return
        room = waiting[-1].request
        assert isinstance(room, Reserve)  # noqa: S101 (for mypy)
        self._fail(
            waiting[-1],
            ContextFullError(
                f"{room.n_cells} more positions and {room.n_sequences} sequences do not fit: "
                f"{max(0, self._n_unreserved())} of {self._context.n_ctx} and {self._allocator.n_sequences_free} are "
                "free; ask something shorter, close conversations that are done with, or use a larger --ctx"
            ),
        )

    def _append_rows(self, task: _Task) -> None:
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

    def _append_tokens(self, tasks: list[_Task]) -> None:
        """Fill one batch: first come first served; single tokens of the less urgent ride along, their texts do not."""
        left = self._context.n_batch
        top = tasks[0].order[0]
        chosen: list[tuple[_Task, DecodeTokens, int]] = []
        for task in tasks:
            request = task.request
            if not isinstance(request, DecodeTokens):  # it has just been asked to make room
                continue
            n = min(request.n_next(self._n_ubatch), left)
            if n < 1 or (task.order[0] != top and request.n_left > 1):
                continue
            if self._have_cells(task, n, planned=sum(n for _, _, n in chosen)):
                chosen.append((task, request, n))
                left -= n
        # Making room for one may have taken the sequence of another.
        chosen = [(task, request, n) for task, request, n in chosen if task.request is request]
        if chosen:
            self._append_chosen(chosen)

    def _append_chosen(self, chosen: list[tuple[_Task, DecodeTokens, int]]) -> None:
        slices = [request.slices(n) for _, request, n in chosen]
        everything = [piece for of_one in slices for piece in of_one]
        rows: list[int] = []

        def run() -> None:
            parts = [(piece.seq_id, piece.rows) for piece in everything]
            rows[:] = self._context.append(parts, [piece.is_end for piece in everything])

        if not self._decode([task for task, _, _ in chosen], run, tell=len(chosen) == 1):
            for one in chosen if len(chosen) > 1 and not self._aborted else []:  # who of them is at fault?
                self._append_chosen([one])
            return
        answers: list[tuple[_Task, Any]] = []
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

    def _have_cells(self, task: _Task, n: int, planned: int = 0) -> bool:
        """See that a task can append n tokens beside the planned ones; make room, or let it wait or fail."""
        while self._n_unreserved() + min(task.n_reserved, n) < n + planned:
            if self._allocator.evict_one():
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
                self._fail(
                    task,
                    ContextFullError(
                        f"{n} more positions do not fit: {self._context.n_free} of {self._context.n_ctx} are free; "
                        "use a larger --ctx"
                    ),
                )
                return False
        return True

    def _decode(self, tasks: list[_Task], run: Callable[[], None], *, tell: bool = True) -> bool:
        """Run a batch; returns whether it ran. If it fails, those in it are told so if they are to be told."""
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
        except Exception as error:  # noqa: BLE001 (handed to those who asked)
            for task in tasks if tell else []:
                self._fail(task, error)
            return False
        finally:
            with self._changed:
                self._in_batch = []
                self._context.abort.clear()
        return True

    def _preempt(self, task: _Task) -> None:
        task.n_reserved = 0
        self._move(task, lambda: task.work.throw(Preempted()))

    def _fail(self, task: _Task, error: Exception) -> None:
        self._move(task, lambda: task.work.throw(error))

    def _resume(self, task: _Task, answer: object) -> None:
        self._move(task, lambda: task.work.send(answer))

    def _move(self, task: _Task, go: Callable[[], Request]) -> None:
        """Let work go on to its next request, or to its end."""
        try:
            task.request = go()
            if isinstance(task.request, Reserve):  # what was reserved before is not wanted any more
                task.n_reserved = 0
        except StopIteration as stop:
            self._end(task, result=stop.value)
        except BaseException as error:  # noqa: BLE001 (handed to whoever waits)
            self._end(task, error=error)

    def _end(self, task: _Task, *, result: object = None, error: BaseException | None = None) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
        task.request, task.n_reserved = None, 0
        if task.cancelled and error is None:
            try:
                task.work.close()
            except BaseException as raised:  # noqa: BLE001 (handed to whoever waits)
                error = raised
            error = error or UsageError(
                "this was stopped: " + ("the model was closed" if self._closing else "cancelled")
            )
        if error is not None:
            task.ticket.set_exception(error)
        else:
            task.ticket.set_result(result)


def _close_at_exit(scheduler: weakref.ref[Scheduler]) -> None:
    alive = scheduler()
    if alive is not None:
        alive.close()
