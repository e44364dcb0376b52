"""How much of a job's prefill is done, counted in positions while the scheduler works on it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from aesedge.scheduling.requests import DecodeTokens, PrefillEmbeddings

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.scheduling.requests import Job, Request

T = TypeVar("T")


class PrefillProgress:
    """Counts the positions of one job.

    Args:
        n_expected: positions that the job will append in all.
    """

    def __init__(self, n_expected: int) -> None:
        self._n_expected = max(1, n_expected)
        self._requests: list[DecodeTokens | PrefillEmbeddings] = []

    def done(self) -> float:
        """Return the share of the positions that are in the KV cache, 0 to 1. May be called on any thread."""
        return min(1.0, sum(request.n_done for request in list(self._requests)) / self._n_expected)

    def watch(self, job: Job[T]) -> Job[T]:
        """Return the same job; what it requests is counted."""
        step: Callable[[], Request] = partial(job.send, None)
        while True:
            try:
                request = step()
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(request, DecodeTokens | PrefillEmbeddings):
                self._requests.append(request)
            try:
                answer: Any = yield request
            except GeneratorExit:
                job.close()
                raise
            except BaseException as error:  # noqa: BLE001 (the job decides what it makes of it)
                step = partial(job.throw, error)
            else:
                step = partial(job.send, answer)
