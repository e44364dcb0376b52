"""The application: which address is answered by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from aesedge.serve import ollama, openai_chat, openai_responses, photo_format
from aesedge.serve.answering import AskEndpoint
from aesedge.serve.api_error import ApiError, api_error
from aesedge.serve.guard import Guard
from aesedge.serve.system_routes import Json, SystemRoutes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from aesedge.serve.answering import Service
    from aesedge.serve.question import Question
    from aesedge.serve.settings import ServeSettings


def make_app(service: Service, settings: ServeSettings, details: dict[str, Any], more: Sequence[Route] = ()) -> ASGIApp:
    """Return the application.

    Args:
        service: what all requests share.
        settings: who may ask.
        details: see :class:`SystemRoutes`.
        more: addresses beside those of every server.
    """

    def json(parse: Callable[[bytes, str], Question]) -> Callable[[Request, bytes], Question]:
        return lambda _request, body: parse(body, service.model)

    asked: dict[str, tuple[Callable[[Request, bytes], Question], type]] = {
        "/v1/chat/completions": (json(openai_chat.parse), openai_chat.ChatFormat),
        "/v1/responses": (json(openai_responses.parse), openai_responses.ResponsesFormat),
        "/api/chat": (json(ollama.parse_chat), ollama.OllamaFormat),
        "/api/generate": (json(ollama.parse_generate), ollama.OllamaGenerateFormat),
        "/v1/photo": (_photo, photo_format.PhotoFormat),
    }
    routes = [
        Route(path, AskEndpoint(service, parse, style), methods=["POST"]) for path, (parse, style) in asked.items()
    ]
    # /models beside /v1/models: some clients take the address without the version.
    app = Starlette(
        routes=[*SystemRoutes(service, details).routes(), *routes, *more],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _mistake},
    )
    return Guard(app, settings)


def _photo(request: Request, body: bytes) -> Question:
    wants_events = "text/event-stream" in request.headers.get("accept", "")
    return photo_format.parse(body, request.query_params, stream=wants_events)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 (for mypy: it is registered for nothing else)
    body = error.ollama() if request.url.path.startswith("/api/") else error.openai()
    return Json(body, status_code=error.status, headers=error.headers())


async def _mistake(request: Request, error: Exception) -> Response:
    return await _api_error(request, api_error(error))


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses in our own form: no such address, or not with this method."""
    assert isinstance(error, HTTPException)  # noqa: S101 (for mypy: it is registered for nothing else)
    messages = {
        404: "there is no such address; /openapi.json lists them",
        405: "not with this method; see /openapi.json",
    }
    told = ApiError(
        error.status_code, messages.get(error.status_code, "the request cannot be answered"), code="address"
    )
    response = await _api_error(request, told)
    response.headers.update(error.headers or {})
    return response
