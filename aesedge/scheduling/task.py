"""A job that was submitted, and the future of its result."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from aesedge.scheduling.requests import DecodeTokens
from aesedge.system.ordered_map import wait_interruptible

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.scheduling.requests import Job, Priority, Request

T = TypeVar("T")


class JobFuture(Future[T]):
    """The result of a job; unlike other futures, ``cancel`` also stops a job that is running."""

    def __init__(self, priority: Priority) -> None:
        super().__init__()
        self.priority = priority
        self._stop: Callable[[], None] | None = None
        self.set_running_or_notify_cancel()

    def on_cancel(self, stop: Callable[[], None]) -> None:
        """Set what ``cancel`` calls."""
        self._stop = stop

    def cancel(self) -> bool:
        """Stop the job within one batch; return False if it has ended already."""
        stop = self._stop
        if self.done() or stop is None:
            return False
        stop()
        return True

    def set_result(self, result: T) -> None:
        """End it. What stops the job holds the job: without it both are freed at once, a photo with them."""
        self._stop = None
        super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """End it, as :meth:`set_result` does."""
        self._stop = None
        super().set_exception(exception)

    def wait(self) -> T:
        """Return the result; Ctrl-C while waiting stops the job."""
        try:
            return wait_interruptible(self)
        except BaseException:
            self.cancel()
            raise


class Task:
    """A job in the scheduler."""

    def __init__(self, job: Job[Any], future: JobFuture[Any], arrival: int, *, preemptible: bool) -> None:
        self.job = job
        self.future = future
        self.order = (future.priority, arrival)
        self.preemptible = preemptible
        self.request: Request | None = None
        self.n_reserved = 0
        """Cells that were reserved and are not used yet."""
        self.cancelled = False

    @property
    def is_preemptible(self) -> bool:
        """Whether it can be preempted now."""
        return self.preemptible and isinstance(self.request, DecodeTokens)
