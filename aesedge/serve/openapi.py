"""The OpenAPI document of a server, made from the structs that read its bodies."""

from __future__ import annotations

from typing import Any

import msgspec

from aesedge import __version__
from aesedge.engine.results import PhotoResult
from aesedge.serve.ollama import OllamaChatBody, OllamaGenerateBody, ShowBody
from aesedge.serve.openai_chat import ChatBody
from aesedge.serve.openai_responses import ResponsesBody
from aesedge.serve.photo_format import PhotoQuery
from aesedge.serve.question import MOST_TOKENS

_BODIES: dict[str, tuple[type, str]] = {
    "/v1/chat/completions": (ChatBody, "OpenAI's chat completions, with the photo's score as `aesedge`."),
    "/v1/responses": (ResponsesBody, "OpenAI's Responses, without stored state."),
    "/api/chat": (OllamaChatBody, "Ollama's chat; a stream unless `stream` is false."),
    "/api/generate": (OllamaGenerateBody, "Ollama's generate; a stream unless `stream` is false."),
    "/api/show": (ShowBody, "What Ollama's clients ask about a model."),
}
_READS = {
    "/": "The page, for browsers.",
    "/health": "Whether the process lives.",
    "/ready": "Whether a request would be answered now.",
    "/metrics": "Numbers for Prometheus.",
    "/openapi.json": "This document.",
    "/v1/models": "The model, as OpenAI's clients ask for it.",
    "/api/tags": "The model, as Ollama's clients ask for it.",
    "/api/ps": "Whether the model is loaded.",
    "/api/version": "The version of Ollama's interface that is spoken.",
}
_ERROR_STATUS = ("400", "401", "403", "404", "408", "413", "415", "429", "500", "503")


def document() -> dict[str, Any]:
    """Return the document."""
    kinds = [kind for kind, _ in _BODIES.values()]
    (*bodies, _query), components = msgspec.json.schema_components(
        [*kinds, PhotoQuery], ref_template="#/components/schemas/{name}"
    )
    result = PhotoResult.json_schema()
    components = {**components, **result["$defs"]}
    paths: dict[str, Any] = {path: {"get": _operation(told, "GET", path)} for path, told in _READS.items()}
    paths["/v1/models/{model}"] = {
        "get": {
            **_operation("One model.", "GET", "/v1/models/{model}"),
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
        }
    }
    for (path, (_, told)), schema in zip(_BODIES.items(), bodies, strict=True):
        content = {"application/json": {"schema": schema}}
        paths[path] = {
            "post": {**_operation(told, "POST", path), "requestBody": {"required": True, "content": content}}
        }
    paths["/v1/photo"] = {"post": _photo_operation()}
    schemes = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "aesedge", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": _without_ref_prefix(components), "securitySchemes": schemes},
        "security": [{}, {"key": []}],
    }


def _operation(told: str, method: str, path: str) -> dict[str, Any]:
    any_json: dict[str, Any] = {"content": {"application/json": {}}}
    errors = {status: {"description": "See the message.", **any_json} for status in _ERROR_STATUS}
    kinds = {"/": ("text/html", "text/plain"), "/metrics": ("text/plain",)}.get(path, ("application/json",))
    if path in {"/v1/chat/completions", "/v1/responses", "/v1/photo"}:
        kinds = (*kinds, "text/event-stream")
    if path in {"/api/chat", "/api/generate"}:
        kinds = (*kinds, "application/x-ndjson")
    good = {"description": "The answer.", "content": {kind: {} for kind in kinds}}
    name = f"{method.lower()}_{path.strip('/').replace('/', '_').replace('{', '').replace('}', '') or 'page'}"
    return {"operationId": name, "summary": told, "responses": {"200": good, **errors}}


def _photo_operation() -> dict[str, Any]:
    operation = _operation("A photo's file in, its score, attributes and critique out.", "POST", "/v1/photo")
    schemas = {
        "words": {"type": "boolean", "default": True},
        "ask": {"type": "string"},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS},
        "progress": {"type": "boolean", "default": False},
    }
    operation["parameters"] = [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]
    image = {"schema": {"type": "string", "format": "binary"}}
    operation["requestBody"] = {"required": True, "content": {"image/jpeg": image, "image/png": image}}
    result = {"schema": {"$ref": "#/components/schemas/PhotoResult"}}
    operation["responses"]["200"]["content"] = {"application/json": result, "text/event-stream": {}}
    return operation


def _without_ref_prefix(value: Any) -> Any:
    """Return schemas whose references lead into the document's components."""
    if isinstance(value, dict):
        return {
            key: inner.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _without_ref_prefix(inner)
            for key, inner in value.items()
        }
    return [_without_ref_prefix(inner) for inner in value] if isinstance(value, list) else value
