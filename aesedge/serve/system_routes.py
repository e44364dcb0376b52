"""Addresses that tell about the server and its model: health, metrics, models, the page."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aesedge import __version__
from aesedge.serve.api_error import ApiError
from aesedge.serve.json_body import check_model, read_body
from aesedge.serve.ollama import ShowBody
from aesedge.serve.receiving import declared_bytes, read_within_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from aesedge.serve.answering import Service

_OLLAMA_VERSION = "0.13.3"
"""The version whose interface is spoken; clients ask for it and compare."""
_PAGE = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
}


class Json(Response):
    """A body of JSON."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode it."""
        return msgspec.json.encode(content)


class SystemRoutes:
    """The addresses, over what the server knows of itself.

    Args:
        service: what all share.
        details: about the model: ``gguf``, ``n_ctx``, ``size``, ``digest``, ``licence``.
    """

    def __init__(self, service: Service, details: dict[str, Any]) -> None:
        self._service = service
        self._details = details
        self._started = datetime.now(timezone.utc)
        page = files("aesedge.serve").joinpath("page")
        self._files = {name: page.joinpath(name).read_bytes() for name in ("index.html", *_PAGE)}

    def routes(self) -> list[Route]:
        """Return all of them."""
        gets: dict[str, Callable[[Request], Any]] = {
            "/": self._root,
            "/page.css": self._page_file,
            "/page.js": self._page_file,
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
            "/v1/models": self._models,
            "/v1/models/{model}": self._model,
            "/api/tags": self._tags,
            "/api/ps": self._ps,
            "/api/version": self._version,
        }
        return [Route(path, answer) for path, answer in gets.items()] + [
            Route("/api/show", self._show, methods=["POST"])
        ]

    async def _root(self, request: Request) -> Response:
        """Return the page to browsers, and to Ollama's clients the words that they look for."""
        if "text/html" in request.headers.get("accept", ""):
            return Response(self._files["index.html"], media_type="text/html", headers=_PAGE_HEADERS)
        return PlainTextResponse("Ollama is running")

    async def _page_file(self, request: Request) -> Response:
        name = request.url.path.strip("/")
        return Response(self._files[name], headers={**_PAGE_HEADERS, "content-type": _PAGE[name]})

    async def _health(self, _request: Request) -> Response:
        return Json({"status": "ok"})

    async def _ready(self, _request: Request) -> Response:
        self._service.host.check_ready()
        self._service.admission.check()
        return Json({"status": "ready"})

    async def _metrics(self, _request: Request) -> Response:
        service = self._service
        text = service.metrics.text(service.model, {
            "num_requests_running": ("Requests that are worked on.", service.admission.n_inside),
            "num_requests_waiting": ("Requests that wait for a place.", service.admission.n_waiting),
            "kv_cache_usage_perc": ("Share of the KV cache in use, 0 to 1.", self._kv_usage()),
            "model_loaded": ("Whether the model is in memory.", service.host.model is not None),
        })  # fmt: skip
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    def _kv_usage(self) -> float:
        session = self._service.host.model
        return session.kv_usage() if session is not None else 0.0

    async def _openapi(self, _request: Request) -> Response:
        from aesedge.serve.openapi import document

        return Json(document())

    async def _models(self, _request: Request) -> Response:
        return Json({"object": "list", "data": [self._model_object()]})

    async def _model(self, request: Request) -> Response:
        check_model(request.path_params["model"], self._service.model)
        return Json(self._model_object())

    def _model_object(self) -> dict[str, Any]:
        return {
            "id": self._service.model,
            "object": "model",
            "created": int(self._started.timestamp()),
            "owned_by": "aesedge",
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        }

    async def _tags(self, _request: Request) -> Response:
        return Json({"models": [self._ollama_model()]})

    async def _ps(self, _request: Request) -> Response:
        loaded = self._service.host.model is not None
        running = {**self._ollama_model(), "size_vram": 0, "expires_at": "0001-01-01T00:00:00Z"}
        return Json({"models": [running] if loaded else []})

    async def _version(self, _request: Request) -> Response:
        return Json({"version": _OLLAMA_VERSION, "aesedge": __version__})

    async def _show(self, request: Request) -> Response:
        declared_bytes(request)
        body = read_body(await read_within_limits(request), ShowBody)
        if body.model is None and body.name is None:
            raise ApiError(400, "there is no model; name one", param="model", code="invalid_value")
        check_model(body.model or body.name, self._service.model)
        info = {
            "general.architecture": "llava",
            "general.name": self._service.model,
            "llava.context_length": self._details["n_ctx"],
        }
        return Json({
            "license": self._details["licence"],
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": self._ollama_model()["details"],
            "model_info": info,
            "capabilities": ["completion", "vision"],
            "modified_at": self._started.isoformat(),
        })  # fmt: skip

    def _ollama_model(self) -> dict[str, Any]:
        quantization = self._details["gguf"].upper()
        return {
            "name": f"{self._service.model}:latest",
            "model": f"{self._service.model}:latest",
            "modified_at": self._started.isoformat(),
            "size": self._details["size"],
            "digest": self._details["digest"],
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "llava",
                "families": ["llava", "clip"],
                "parameter_size": "",
                "quantization_level": quantization,
            },
        }
