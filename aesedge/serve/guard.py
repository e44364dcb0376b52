"""Checks of every request before anything reads it: host, origin, key, kind of body; and headers of every answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import re
import socket
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import ClientDisconnect

from aesedge.serve.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from aesedge.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_MOST_HEAD = 32_768
_OPEN = {"/health"}
_SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_ALLOWED_HEADERS = {"authorization", "content-type", "accept", "user-agent", "openai-beta", "x-api-key"}


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: what answers requests that pass.
        settings: who may ask.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._keys = settings.keys
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.origins)
        origin_names = {urlsplit(origin).hostname or "" for origin in self._origins}
        self._names = frozenset({"localhost", settings.host.lower(), socket.gethostname().lower(), *origin_names})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [*_SAFE_HEADERS, (b"x-request-id", uuid.uuid4().hex.encode())]

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in headers if h[0] not in present)]
            await send(message)

        try:
            values = _single_headers(scope)
            origin = self._check_host_and_origin(values)
            if origin is not None:
                headers += [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin")]
                headers += [(b"cross-origin-resource-policy", b"cross-origin")]
                headers.remove((b"cross-origin-resource-policy", b"same-origin"))
                if scope["method"] == "OPTIONS":
                    await _answer(send_more, 204, b"", _preflight(values))
                    return
            if scope["path"] not in _OPEN:
                scope.setdefault("state", {})["key"] = self._check_key(values)
            if scope["method"] == "POST":
                _check_content(scope["path"], values)
        except ApiError as error:
            await refuse(send_more, error, scope["path"])
            return
        with suppress(asyncio.CancelledError):  # the server stops without waiting any longer
            await self._logged(scope, receive, send_more)

    async def _logged(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:  # nobody is left to be told
            return
        except Exception:  # noqa: BLE001 (the client was told; the server goes on)
            _log.exception("a request failed")

    def _check_host_and_origin(self, headers: Mapping[str, str]) -> str | None:
        """Return the origin if it is one from elsewhere that may ask.

        A page of an attacker can point its own name at this address (DNS rebinding), but not an address or a name of
        this machine.
        """
        host = headers.get("host", "")
        match = _HOST.fullmatch(host)
        if match is None or not self._is_ours(match["name"].lower()):
            raise ApiError(
                403,
                "this server is not asked by that name; use its address, or start it with --origin http://NAME",
                code="host",
            )
        origin = headers.get("origin")
        if origin is None or origin.lower() in {f"http://{host}".lower(), f"https://{host}".lower()}:
            return None
        if origin.lower() not in self._origins:
            raise ApiError(
                403, "pages from there may not ask; start the server with --origin to let them", code="origin"
            )
        return origin

    def _is_ours(self, name: str) -> bool:
        if name in self._names or name.endswith((".localhost", ".local")):
            return True
        try:
            ipaddress.ip_address(name.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return True

    def _check_key(self, headers: Mapping[str, str]) -> str:
        """Return which key a request has; empty where none is needed."""
        if not self._keys:
            return ""
        given = _given_key(headers)
        same = [hmac.compare_digest(given, key) for key in self._keys]  # all of them: the time says nothing
        if not any(same):
            raise ApiError(401, "the key is missing or wrong; send Authorization: Bearer KEY", code="invalid_api_key")
        return str(same.index(True))


def _single_headers(scope: Scope) -> dict[str, str]:
    """Return the headers that count here; each may come once."""
    found: dict[str, str] = {}
    if sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["path"]) > _MOST_HEAD:
        raise ApiError(431, "the request's headers are too large", code="header")
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in found and key in {"host", "origin", "authorization", "content-type"}:
            raise ApiError(400, f"the header {key} came more than once", code="header")
        found[key] = value.decode("latin-1")
    return found


def _given_key(headers: Mapping[str, str]) -> bytes:
    """Return the key of a request: Bearer as OpenAI's clients send it, or the password that a browser asked for."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return headers.get("x-api-key", "").encode("latin-1")


def _check_content(path: str, headers: Mapping[str, str]) -> None:
    """See that a body says what it is: pages of others can send text and forms here without asking, JSON not."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if path in {"/v1/photo", "/kiosk/photo"}:
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise ApiError(415, "the body is the photo's file; send Content-Type: image/jpeg", code="content_type")
    elif kind != "application/json":
        raise ApiError(415, "the body is JSON; send Content-Type: application/json", code="content_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(415, "compressed bodies are not read; send it as it is", code="content_encoding")


def _preflight(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    asked = [name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")]
    allowed = [name for name in asked if name in _ALLOWED_HEADERS or name.startswith("x-stainless-")]
    return [
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-allow-headers", ", ".join(allowed).encode()),
        (b"access-control-max-age", b"600"),
    ]


async def refuse(send: Send, error: ApiError, path: str) -> None:
    """Answer with an error, in the form of the path's clients."""
    headers = [(name.encode(), value.encode()) for name, value in error.headers().items()]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="aesedge: any name, the key as password"'))
    body = error.ollama() if path.startswith("/api/") else error.openai()
    await _answer(send, error.status, msgspec.json.encode(body), [*headers, (b"content-type", b"application/json")])


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = [(b"content-length", str(len(body)).encode())] if status != 204 else []
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": [*headers, *length]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
