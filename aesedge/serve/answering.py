"""One request from its body to its answer: read, wait for a place, ask the model, write in the client's format."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from starlette.requests import ClientDisconnect, Request

from aesedge.serve.api_error import ApiError, api_error
from aesedge.serve.guard import refuse
from aesedge.serve.question import Outcome, Words
from aesedge.serve.receiving import Bodies, declared_bytes, read_within_limits, unless_gone
from aesedge.serve.settings import PING_S, SEND_S
from aesedge.serve.sse import PING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from concurrent.futures import Executor

    from starlette.types import Receive, Scope, Send

    from aesedge.serve.admission import Admission, Place
    from aesedge.serve.metrics import Metrics
    from aesedge.serve.model_host import ModelHost
    from aesedge.serve.question import Event, Question
    from aesedge.serve.session import Session

_log = logging.getLogger(__name__)


class Format(Protocol):
    """How one answer is written for a kind of client."""

    media_type: str

    def __init__(self, question: Question, model: str, fingerprint: str) -> None: ...

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""

    def begin(self) -> Iterator[bytes]:
        """Yield what begins a stream."""

    def event(self, event: Event) -> Iterator[bytes]:
        """Yield what an event adds to a stream."""

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield what ends a stream."""

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """Yield what ends a stream in which something failed."""


@dataclass
class Service:
    """What all requests of a server share."""

    model: str
    """Its name."""
    fingerprint: str
    host: ModelHost[Session]
    admission: Admission
    metrics: Metrics
    pool: Executor
    """For bodies, which may take a while to read."""
    bodies: Bodies = field(default_factory=Bodies)


class AskEndpoint:
    """An address at which questions are asked, as an ASGI application.

    Args:
        service: what all share.
        parse: reads a request and its body.
        style: writes the answer.
    """

    def __init__(
        self, service: Service, parse: Callable[[Request, bytes], Question], style: Callable[..., Format]
    ) -> None:
        self._service = service
        self._parse = parse
        self._style = style

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        arrived = time.perf_counter()
        status = "gone"
        try:
            status = str(await self._answer(Request(scope, receive), receive, send, arrived))
        except ClientDisconnect:
            self._service.metrics.gone()
        except Exception as error:  # noqa: BLE001 (whatever it is, the client gets an answer and the server goes on)
            told = api_error(error)
            status = str(told.status)
            if told.status == 500:
                _log.error("a request failed", exc_info=error)
            self._service.metrics.refused(told.status)
            await refuse(send, told, scope["path"])
        _log.info("%s %s %s %.3f s", scope["method"], scope["path"], status, time.perf_counter() - arrived)

    async def _answer(self, request: Request, receive: Receive, send: Send, arrived: float) -> int:
        service = self._service
        service.host.check_ready()
        service.admission.check()
        with service.bodies.hold(declared_bytes(request)):
            body = await read_within_limits(request)
            loop = asyncio.get_running_loop()
            question = await loop.run_in_executor(service.pool, self._parse, request, body)
            del body
            style = self._style(question, service.model, service.fingerprint)
            run = _Run(service, question, request.scope["state"].get("key", ""), arrived)
            writing = _Stream(style, run, send).write() if question.stream else _write_whole(style, run, send)
            return await unless_gone(receive, writing)


class _Run:
    """One question while it is answered."""

    def __init__(self, service: Service, question: Question, owner: str, arrived: float) -> None:
        self._service, self._question, self._owner, self._arrived = service, question, owner, arrived

    async def events(self) -> AsyncGenerator[Event | Outcome, None]:
        """Wait for a place, ask the model, and yield what comes; the last is the outcome."""
        service = self._service
        async with service.admission.enter(self._question.n) as place, service.host.use() as (session, load_s):
            ttft_s = None
            answer = session.answer(self._question, self._owner, arrived=self._arrived, load_s=load_s)
            async with aclosing(answer) as events:
                async for event in events:
                    if isinstance(event, Words) and ttft_s is None:
                        ttft_s = time.perf_counter() - self._arrived
                    if isinstance(event, Outcome):
                        self._done(event, place, ttft_s)
                    yield event

    def _done(self, outcome: Outcome, place: Place, ttft_s: float | None) -> None:
        outcome.total_s = time.perf_counter() - self._arrived
        if outcome.result is not None:
            told = outcome.result["timings"]
            told |= {"queue_s": round(place.waited_s, 6), "total_s": round(outcome.total_s, 6)}
            told["ttft_s"] = None if ttft_s is None else round(ttft_s, 6)
        self._service.metrics.done(outcome, waited_s=place.waited_s, ttft_s=ttft_s)
        place.leave()  # what is left is to be sent, and a client may read slowly


async def _write_whole(style: Format, run: _Run, send: Send) -> int:
    async with aclosing(run.events()) as events:
        async for event in events:
            if isinstance(event, Outcome):
                body = msgspec.json.encode(style.whole(event))
    await _send(send, _start(b"application/json", [(b"content-length", str(len(body)).encode())]))
    await _send(send, {"type": "http.response.body", "body": body})
    return 200


class _Stream:
    """A stream of events. Its head is sent with the first of them, so that what fails before has its own status."""

    def __init__(self, style: Format, run: _Run, send: Send) -> None:
        self._style, self._run, self._send = style, run, send
        self._begun = self._ended = False
        self._last = time.perf_counter()
        """When something was sent."""

    async def write(self) -> int:
        """Send all of it; returns the status."""
        try:
            async with aclosing(self._run.events()) as events:
                await self._write(events)
        except Exception as error:
            if not self._begun:
                raise
            told = api_error(error)
            if told.status == 500:
                _log.exception("a stream failed")
            if not self._ended:
                await self._put(self._style.failed(told), is_last=True)
        return 200

    async def _write(self, events: AsyncGenerator[Event | Outcome, None]) -> None:
        pinging = asyncio.ensure_future(self._ping_in_silence())
        try:
            async for event in events:
                if isinstance(event, Outcome):
                    await self._put(self._style.end(event), is_last=True)
                else:
                    await self._put(self._style.event(event))
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)

    async def _ping_in_silence(self) -> None:
        """Say that it goes on; lines of JSON have no comments, and only their head can be sent."""
        while True:
            rest_s = self._last + PING_S - time.perf_counter()
            await asyncio.sleep(max(0.0, rest_s))
            if self._last + PING_S <= time.perf_counter():
                await self._begin()
                self._last = time.perf_counter()
                if self._style.media_type == "text/event-stream":
                    await _send(self._send, {"type": "http.response.body", "body": PING, "more_body": True})

    async def _put(self, pieces: Iterator[bytes], *, is_last: bool = False) -> None:
        """Send pieces; the last ones and the end of the stream are one write, which wakes a client once."""
        data = b"".join(pieces)
        await self._begin()
        self._last = time.perf_counter()
        if data or is_last:
            self._ended = is_last
            await _send(self._send, {"type": "http.response.body", "body": data, "more_body": not is_last})

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await _send(self._send, _start(self._style.media_type.encode(), [(b"x-accel-buffering", b"no")]))
            if first := b"".join(self._style.begin()):
                await _send(self._send, {"type": "http.response.body", "body": first, "more_body": True})


def _start(media_type: bytes, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", media_type), *headers]}


async def _send(send: Send, message: dict[str, Any]) -> None:
    """Send a piece; a client that reads nothing for long counts as gone."""
    task = asyncio.current_task()
    late: list[bool] = []

    def give_up() -> None:
        late.append(True)
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(SEND_S, give_up)  # wait_for would make a task for each word
    try:
        await send(message)
    except asyncio.CancelledError:
        if late:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
