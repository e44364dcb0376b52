"""The addresses of a kiosk beside those of every server: the page, its beats, photos asked about and forgotten."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from aesedge.errors import AesedgeError
from aesedge.kiosk.camera_folder import CameraFolder
from aesedge.kiosk.config import PAGE, KioskConfig
from aesedge.kiosk.on_result import ResultCommand
from aesedge.serve.answering import AskEndpoint
from aesedge.serve.api_error import ApiError
from aesedge.serve.json_body import read_body
from aesedge.serve.photo_format import PhotoFormat, parse
from aesedge.serve.receiving import read_within_limits
from aesedge.serve.system_routes import Json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from aesedge.serve.answering import Service
    from aesedge.serve.question import Outcome, Question

_ENGINE_S = 0.5
_FILES = {
    "kiosk.css": "text/css; charset=utf-8",
    "kiosk.js": "text/javascript; charset=utf-8",
    "camera.js": "text/javascript; charset=utf-8",
    "ask.js": "text/javascript; charset=utf-8",
    "words.json": "application/json",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
}


class Beat(msgspec.Struct):
    """What the page says each second."""

    state: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """The screen that it shows."""


class Alive(msgspec.Struct, kw_only=True):
    """What the supervisor is told."""

    beat_s: float | None
    """Seconds since the page's last beat; None before the first."""
    engine_s: float
    """Seconds since the engine's own thread answered; 0 while no model is loaded."""
    state: str
    ready: bool


class KioskRoutes:
    """The addresses.

    Args:
        service: what all requests share.
        config: the operator's choices.
        folder: where a tethered camera writes, or None.
    """

    def __init__(self, service: Service, config: KioskConfig, folder: Path | None) -> None:
        self._service = service
        self._config = config
        self._instance = secrets.token_hex(8)
        self._beat_at: float | None = None
        self._state = ""
        self._engine_at = time.monotonic()
        self._command: ResultCommand | None = None
        self._folder = None if folder is None else CameraFolder(folder, service.pool)
        self._watching: asyncio.Task[None] | None = None
        self._files = {name: PAGE.joinpath(name).read_bytes() for name in ("index.html", *_FILES)}

    def routes(self) -> list[Route]:
        """Return all of them."""
        ask = AskEndpoint(self._service, self._parse, self._format)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await ask(scope, receive, send)
            finally:
                self._forget()

        return [
            Route("/kiosk", self._page),
            *(Route(f"/kiosk/{name}", self._file) for name in _FILES),
            Route("/kiosk/settings", self._settings),
            Route("/kiosk/alive", self._alive),
            Route("/kiosk/alive", self._beat, methods=["POST"]),
            Route("/kiosk/folder/{number:int}", self._from_folder),
            Route("/kiosk/photo", _Asgi(answer), methods=["POST"]),
        ]

    async def _page(self, _request: Request) -> Response:
        return Response(self._files["index.html"], media_type="text/html", headers=_HEADERS)

    async def _file(self, request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return Response(self._files[name], headers={**_HEADERS, "content-type": _FILES[name]})

    async def _settings(self, _request: Request) -> Response:
        config = self._config
        return Json({
            "language": config.language,
            "languages": config.languages,
            "idle_s": config.idle_s,
            "camera": config.camera,
            "mirror": config.mirror,
            "folder": self._folder is not None,
            "passed": bool(config.on_result),
            "instance": self._instance,
        })  # fmt: skip

    async def _beat(self, request: Request) -> Response:
        self._state = read_body(await read_within_limits(request), Beat).state
        self._beat_at = time.monotonic()
        told: dict[str, Any] = {"instance": self._instance, "ready": self._is_ready()}
        if self._folder is not None:
            if self._watching is None or self._watching.done():
                self._watching = asyncio.get_running_loop().create_task(self._folder.watch())
            told |= {"folder": self._folder.is_there, "photo": self._folder.number}
        return Json(told)

    async def _alive(self, _request: Request) -> Response:
        """Say since when nothing was heard, of the page and of the engine's own thread."""
        now = time.monotonic()
        session = self._service.host.model
        with suppress(asyncio.TimeoutError, AesedgeError):
            if session is not None:
                await asyncio.wait_for(session.answers(), _ENGINE_S)
            self._engine_at = now
        beat_s = None if self._beat_at is None else now - self._beat_at
        return Json(Alive(beat_s=beat_s, engine_s=now - self._engine_at, state=self._state, ready=self._is_ready()))

    def _is_ready(self) -> bool:
        host = self._service.host
        return host.was_loaded and not host.failed and not self._service.admission.closed

    async def _from_folder(self, request: Request) -> Response:
        found = None if self._folder is None else self._folder.take(request.path_params["number"])
        if found is None:
            raise ApiError(404, "there is no such photo, or it cannot be read", code="photo")
        return Response(found, media_type="image/jpeg")

    def _parse(self, request: Request, body: bytes) -> Question:
        return parse(body, {**request.query_params, "progress": "1"}, stream=True)

    def _format(self, question: Question, model: str, fingerprint: str) -> _KioskFormat:
        if self._command is None:
            self._command = ResultCommand(self._config.on_result, self._config.on_result_s)
        return _KioskFormat(question, model, fingerprint, self._command)

    def _forget(self) -> None:
        session = self._service.host.model
        if session is not None:
            session.forget()


class _KioskFormat(PhotoFormat):
    """The events of a photo; its whole result goes to the operator's command too."""

    def __init__(self, question: Question, model: str, fingerprint: str, command: ResultCommand) -> None:
        super().__init__(question, model, fingerprint)
        self._command = command

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield the whole result."""
        self._command.start(self.whole(outcome))
        yield from super().end(outcome)


class _Asgi:
    """Keeps Starlette from taking an ASGI application for a function that answers a request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
