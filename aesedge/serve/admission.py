"""Who may be inside: as many as the KV cache has room for, a bounded line behind them, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from aesedge.serve.api_error import ApiError

if TYPE_CHECKING:
    from types import TracebackType

_LEAST_RETRY_S, _MOST_RETRY_S = 1, 120  # openai-python does not come back at all after more
_FIRST_GUESS_S = 2.0
_WEIGHT_OF_NEW = 0.2


class Admission:
    """The places of one server. Everything happens on the event loop's thread.

    Args:
        places: how many are inside at once.
        queue: how many wait behind them.
    """

    def __init__(self, places: int, queue: int) -> None:
        self.places = places
        self.queue = queue
        self.n_inside = 0
        self.closed = False
        self._line: deque[Place] = deque()
        self._mean_s = _FIRST_GUESS_S

    @property
    def n_waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    def check(self) -> None:
        """Refuse a request before its body is read, where it would be refused anyway.

        Raises:
            ApiError: 503 while the server stops, 429 where the line is full.
        """
        if self.closed:
            raise _stopping()
        if len(self._line) >= self.queue and (self._line or self.n_inside >= self.places):
            raise self._busy()

    def enter(self, weight: int = 1) -> Place:
        """Take a place, or one in the line; leave it by leaving its ``async with``.

        Args:
            weight: how many places the request takes; at most as many as there are.

        Raises:
            ApiError: 503 while the server stops, 429 where the line is full.
        """
        self.check()
        place = Place(self, min(weight, self.places))
        self._line.append(place)
        self._let_in()
        if not place.is_inside and len(self._line) > self.queue:
            self._line.remove(place)
            raise self._busy()
        return place

    def _busy(self) -> ApiError:
        message = f"{self.n_inside} requests are worked on and {len(self._line)} wait; try again later"
        return ApiError(429, message, code="busy", retry_after_s=self.retry_after_s())

    def retry_after_s(self) -> int:
        """Return in how many seconds a place in the line is likely, from the time that requests took lately."""
        return int(min(_MOST_RETRY_S, max(_LEAST_RETRY_S, self._mean_s / self.places + 0.5)))

    def close(self) -> None:
        """Refuse all that wait and all that come."""
        self.closed = True
        for place in self._line:
            if not place.turn.done():
                place.turn.set_exception(_stopping())
        self._line.clear()

    def _let_in(self) -> None:
        while self._line and self.n_inside + self._line[0].weight <= self.places:
            place = self._line.popleft()
            self.n_inside += place.weight
            place.admitted = time.perf_counter()
            if not place.turn.done():
                place.turn.set_result(None)

    def leave(self, place: Place) -> None:
        """Give a place back, and let the next ones in."""
        if place.admitted is not None:
            self.n_inside -= place.weight
            self._mean_s += _WEIGHT_OF_NEW * (time.perf_counter() - place.admitted - self._mean_s)
            place.admitted = None
        elif place in self._line:
            self._line.remove(place)
        self._let_in()


def _stopping() -> ApiError:
    return ApiError(503, "the server is stopping; try another one, or later", code="draining", retry_after_s=30)


class Place:
    """One request's place, inside or in the line."""

    def __init__(self, admission: Admission, weight: int) -> None:
        self.weight = weight
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.admitted: float | None = None
        self.entered = time.perf_counter()
        self.waited_s = 0.0
        self._admission = admission

    @property
    def is_inside(self) -> bool:
        """Whether it is inside now."""
        return self.admitted is not None

    async def __aenter__(self) -> Place:
        try:
            await self.turn
        except BaseException:
            self._admission.leave(self)
            raise
        self.waited_s = time.perf_counter() - self.entered
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.leave(self)

    def leave(self) -> None:
        """Give it back before its block ends: the text is written, and only the client reads slowly."""
        self._admission.leave(self)
