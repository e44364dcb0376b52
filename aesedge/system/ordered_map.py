"""Process several photos at once and yield the results in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from aesedge.errors import AesedgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

_LOOK_UP_S = 0.5
"""Windows does not notice Ctrl-C during a wait without a timeout."""
S = TypeVar("S")
T = TypeVar("T")


def batched(items: Iterable[T], n: int) -> Iterator[list[T]]:
    """Yield lists of n items; the last one may be shorter."""
    rest = iter(items)
    while group := list(islice(rest, n)):
        yield group


def map_ordered(sources: Iterable[S], work: Callable[[S], T], *, at_once: int) -> Iterator[tuple[S, T | AesedgeError]]:
    """Apply ``work`` to sources, several at a time, and yield the results in order; an error is a result too.

    At most ``at_once`` results are pending, so memory is bounded. With one at a time everything happens on the
    caller's thread.
    """
    if at_once == 1:
        for source in sources:
            yield source, _outcome(work, source)
        return
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="aesedge-photo")
    ahead: deque[tuple[S, Future[T | AesedgeError]]] = deque()
    try:
        for source in sources:
            ahead.append((source, pool.submit(_outcome, work, source)))
            if len(ahead) >= at_once:
                yield _first(ahead)
        while ahead:
            yield _first(ahead)
    finally:
        # Running work is not waited for: the caller closes the model, which stops it.
        pool.shutdown(wait=False, cancel_futures=True)


def _first(ahead: deque[tuple[S, Future[T]]]) -> tuple[S, T]:
    source, future = ahead.popleft()
    return source, wait_interruptible(future)


def wait_interruptible(future: Future[T]) -> T:
    """Wait for a result in a way that Ctrl-C can interrupt."""
    while not wait([future], timeout=_LOOK_UP_S).done:
        pass
    return future.result()


def _outcome(work: Callable[[S], T], source: S) -> T | AesedgeError:
    try:
        return work(source)
    except AesedgeError as error:
        return error
