"""JSON bodies of requests: read into structs, with errors that name the field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from aesedge.engine.generation_options import MOST_TOP_LOGPROBS
from aesedge.errors import UsageError
from aesedge.serve.api_error import ApiError
from aesedge.serve.question import MOST_CHOICES, MOST_SEED, MOST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.llm import Grammar

T = TypeVar("T")

MOST_MESSAGES, MOST_PARTS, MOST_STOPS, MOST_STOP = 1000, 100, 8, 256
MOST_CHARACTERS = 200_000
"""Of all texts of a request, the picture aside: more than any context holds."""

Tokens = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
TopK = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=MOST_CHOICES)]
TopLogprobs = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOP_LOGPROBS)]
StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_STOP)]
Stop = StopText | Annotated[list[StopText], msgspec.Meta(max_length=MOST_STOPS)]
Model = Annotated[str, msgspec.Meta(max_length=200)]


def read_body(body: bytes, kind: type[T]) -> T:
    """Read a body; fields that the struct does not have are ignored.

    Raises:
        ApiError: it is no JSON, or a field is not as it must be; the message names it.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        param = re.sub(r"^`\$\.?|`$", "", path) or None
        missing = re.search(r"required field `(\w+)`", message)
        param = ".".join(filter(None, [param, missing[1]])) if missing else param
        raise ApiError(400, f"{param or 'the body'}: {message}", param=param, code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "the body is no JSON in UTF-8", code="invalid_json") from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None


def stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the texts that end an answer."""
    return () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)


def seed_in_range(seed: int | None) -> int | None:
    """Return a seed that the sampler takes: clients send 64 bits, and -1 for any."""
    return None if seed is None or seed < 0 else seed % MOST_SEED


def least(*limits: int | None) -> int | None:
    """Return the smallest limit that was given."""
    return min((limit for limit in limits if limit is not None), default=None)


def schema_grammar(schema: dict[str, Any] | None, *, param: str) -> Grammar:
    """Return the grammar of a JSON schema; None is any JSON object.

    Raises:
        ApiError: the schema is broken, or asks for something that cannot be kept to.
    """
    from aesedge.llm import Grammar

    try:
        return Grammar.from_json_schema({"type": "object"} if schema is None else schema)
    except UsageError as error:
        raise ApiError(400, str(error), param=param, code="invalid_schema") from None


def format_grammar(kind: str, schema: dict[str, Any] | None, *, param: str, schema_param: str) -> Grammar | None:
    """Return the grammar of OpenAI's ``text``, ``json_object`` and ``json_schema``; None for text.

    Raises:
        ApiError: ``json_schema`` without a schema, or with one that cannot be kept to.
    """
    if kind == "text":
        return None
    if kind == "json_schema" and schema is None:
        raise ApiError(400, "there is no schema", param=schema_param, code="invalid_schema")
    return schema_grammar(schema, param=param)


def check_tool_choice(choice: str | dict[str, Any] | None) -> None:
    """See that a request does not insist on a tool.

    Raises:
        ApiError: 400, it does.
    """
    if isinstance(choice, dict) or choice not in {None, "auto", "none"}:
        raise ApiError(
            400, "tools are never called; leave tool_choice out, or set it to auto", param="tool_choice", code="tools"
        )


def check_model(asked: str | None, name: str) -> None:
    """See that a request names the model that is loaded; Ollama's clients add a tag.

    Raises:
        ApiError: 404, it names another one.
    """
    if asked is not None and asked.removesuffix(":latest").lower() != name.lower():
        raise ApiError(
            404,
            f"this server has the model {name!r} and no other; name it, or none",
            param="model",
            code="model_not_found",
        )


def check_length(texts: Sequence[str], *, param: str) -> None:
    """See that the texts of a request could fit a context at all.

    Raises:
        ApiError: they are too long.
    """
    if sum(map(len, texts)) > MOST_CHARACTERS:
        raise ApiError(
            400,
            f"the texts have more than {MOST_CHARACTERS} characters; send less",
            param=param,
            code="context_length_exceeded",
        )
