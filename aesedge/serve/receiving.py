"""Bodies of requests, within limits of size, time and memory; and whether the client is still there."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from aesedge.serve.api_error import ApiError
from aesedge.serve.settings import BODY_S, MOST_BODIES, MOST_BODY

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from starlette.requests import Request
    from starlette.types import Receive

T = TypeVar("T")


class Bodies:
    """The memory that bodies of all requests take."""

    def __init__(self, most_bytes: int = MOST_BODIES) -> None:
        self._most_bytes = most_bytes
        self.n_bytes = 0

    @contextmanager
    def hold(self, n_bytes: int) -> Iterator[None]:
        """Count the bytes of a body for the block.

        Raises:
            ApiError: 429, the bodies of others take too much.
        """
        if self.n_bytes + n_bytes > self._most_bytes:
            raise ApiError(429, "too many large requests at once; try again later", code="busy", retry_after_s=5)
        self.n_bytes += n_bytes
        try:
            yield
        finally:
            self.n_bytes -= n_bytes


def declared_bytes(request: Request) -> int:
    """Return how large a body is at most, by its header.

    Raises:
        ApiError: 413, it is larger than any may be; 400, the header is no number.
    """
    told = request.headers.get("content-length")
    if told is None:
        return MOST_BODY  # it comes in chunks
    if not (told.isascii() and told.isdigit()):
        raise ApiError(400, "Content-Length is no number", code="header")
    if len(told) > 12 or int(told) > MOST_BODY:
        raise too_large()
    return int(told)


def too_large() -> ApiError:
    """Return what is said of a body beyond the limit."""
    return ApiError(413, f"the request is larger than {MOST_BODY} bytes; send the photo smaller", code="too_large")


async def read_within_limits(request: Request) -> bytes:
    """Return the body.

    Raises:
        ApiError: 413, it is too large; 408, it comes too slowly.
    """
    body = bytearray()

    async def read() -> None:
        async for piece in request.stream():
            if len(body) + len(piece) > MOST_BODY:
                raise too_large()
            body.extend(piece)

    try:
        await asyncio.wait_for(read(), BODY_S)
    except asyncio.TimeoutError:
        raise ApiError(408, f"the body took longer than {BODY_S:.0f} s", code="too_slow") from None
    return bytes(body)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what work comes to; it is cancelled as soon as the client goes away.

    Raises:
        ClientDisconnect: the client went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
