"""OpenAI's chat completions: bodies to questions, outcomes to bodies and chunks.

Source: openai-python, ``src/openai/types/chat``.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from aesedge.serve.api_error import ApiError
from aesedge.serve.image_data import check_image_text
from aesedge.serve.json_body import (
    MOST_MESSAGES,
    MOST_PARTS,
    Choices,
    Model,
    Probability,
    Seed,
    Stop,
    Temperature,
    Tokens,
    TopK,
    TopLogprobs,
    check_model,
    check_tool_choice,
    format_grammar,
    least,
    read_body,
    seed_in_range,
    stops,
)
from aesedge.serve.messages import Message, dialogue
from aesedge.serve.question import Ended, Question, Words, openai_reason
from aesedge.serve.sse import DONE, sse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.engine.logprobs import TokenLogprob
    from aesedge.llm import Grammar
    from aesedge.serve.question import Event, Outcome


class ImageUrl(msgspec.Struct):
    """Where an image is: ``data:`` URIs alone are taken."""

    url: str


class Part(msgspec.Struct):
    """A piece of a message: text or an image."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None


class ChatMessage(msgspec.Struct):
    """A message; the content of an assistant that called tools is null."""

    role: str
    content: str | Annotated[list[Part], msgspec.Meta(max_length=MOST_PARTS)] | None = None


class JsonSchema(msgspec.Struct):
    """A schema; its name means nothing here."""

    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None  # where llama.cpp's clients put it


class StreamOptions(msgspec.Struct):
    """What comes with a stream."""

    include_usage: bool | None = None


class ChatBody(msgspec.Struct):
    """Body of POST /v1/chat/completions; fields that are not named here are ignored."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)]
    model: Model | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: TopK | None = None
    min_p: Probability | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    n: Choices | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


def parse(body: bytes, model: str) -> Question:
    """Read a body.

    Raises:
        ApiError: 400, something in it cannot be answered; 404, it names another model.
    """
    asked = read_body(body, ChatBody)
    check_model(asked.model, model)
    check_tool_choice(asked.tool_choice)
    if asked.top_logprobs is not None and not asked.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
    talk = dialogue([_message(message, i) for i, message in enumerate(asked.messages)], param="messages")
    return Question(
        photo=talk.photo,
        turns=talk.turns,
        text=talk.text,
        max_tokens=least(asked.max_tokens, asked.max_completion_tokens),
        temperature=asked.temperature or 0.0,
        top_p=asked.top_p or None,
        top_k=asked.top_k,
        min_p=asked.min_p,
        seed=seed_in_range(asked.seed),
        stop=stops(asked.stop),
        grammar=_grammar(asked.response_format),
        n=asked.n or 1,
        top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        stream=bool(asked.stream),
        extra={"usage": bool(asked.stream_options and asked.stream_options.include_usage)},
    )


def _message(message: ChatMessage, i: int) -> Message:
    if not isinstance(message.content, list):
        return Message(message.role, message.content or "")
    texts, images = [], []
    for j, part in enumerate(message.content):
        where = f"messages[{i}].content[{j}]"
        if part.type == "text" and part.text is not None:
            texts.append(part.text)
        elif part.type == "image_url" and part.image_url is not None:
            url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
            images.append(check_image_text(url, param=f"{where}.image_url", needs_uri=True))
        else:
            raise ApiError(
                400, "a part is {type: text, text} or {type: image_url, image_url}", param=where, code="part"
            )
    return Message(message.role, "\n".join(texts), tuple(images))


def _grammar(wanted: ResponseFormat | None) -> Grammar | None:
    if wanted is None:
        return None
    schema = wanted.schema if wanted.json_schema is None else wanted.json_schema.schema
    schema_param = "response_format.json_schema.schema"
    return format_grammar(wanted.type, schema, param="response_format", schema_param=schema_param)


class ChatFormat:
    """One answer in the form of chat completions.

    Args:
        question: what was asked.
        model: its name.
        fingerprint: changes when the model does.
    """

    media_type = "text/event-stream"

    def __init__(self, question: Question, model: str, fingerprint: str) -> None:
        self._question = question
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": self._logprobs(logprobs),
                "finish_reason": openai_reason(reason),
            }
            for i, (text, reason, logprobs) in enumerate(
                zip(outcome.texts, outcome.reasons, outcome.logprobs, strict=True)
            )
        ]
        body = {**self._head, "object": "chat.completion", "choices": choices, "usage": usage(outcome)}
        return {**body, **outcome.extra()}

    def begin(self) -> Iterator[bytes]:
        """Yield what begins a stream: the role, once for each choice."""
        for i in range(self._question.n):
            yield self._chunk([self._choice(i, {"role": "assistant", "content": ""})])

    def event(self, event: Event) -> Iterator[bytes]:
        """Yield what an event adds to a stream."""
        if isinstance(event, Words) and (event.text or event.logprobs):
            choice = self._choice(event.index, {"content": event.text})
            if self._question.top_logprobs is not None:
                choice["logprobs"] = self._logprobs(event.logprobs)
            yield self._chunk([choice])
        elif isinstance(event, Ended) and self._question.n > 1:
            yield self._chunk([self._choice(event.index, {}, openai_reason(event.reason))])

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield what ends a stream; the extra object comes with the last choice."""
        extra = outcome.extra()
        if self._question.n == 1:
            yield self._chunk([self._choice(0, {}, openai_reason(outcome.reasons[0]))], **extra)
        elif extra:
            yield self._chunk([], **extra)
        if self._question.extra["usage"]:
            yield self._chunk([], usage=usage(outcome))
        yield DONE

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """Yield what ends a stream in which something failed."""
        yield sse(error.openai())
        yield DONE

    def _choice(self, index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _chunk(self, choices: list[dict[str, Any]], **extra: Any) -> bytes:
        usage_too = {"usage": None} if self._question.extra["usage"] else {}
        return sse({**self._head, "object": "chat.completion.chunk", "choices": choices, **usage_too, **extra})

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if self._question.top_logprobs is None:
            return None
        content = [
            {**_token(one.piece, one.logprob), "top_logprobs": [_token(*other) for other in one.top]}
            for one in logprobs
        ]
        return {"content": content, "refusal": None}


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}


def usage(outcome: Outcome) -> dict[str, Any]:
    """Return how many tokens an answer took, in OpenAI's words."""
    return {
        "prompt_tokens": outcome.n_prompt,
        "completion_tokens": outcome.n_generated,
        "total_tokens": outcome.n_prompt + outcome.n_generated,
        "prompt_tokens_details": {
            "cached_tokens": outcome.n_cached,
            "image_tokens": outcome.n_image,
            "text_tokens": outcome.n_prompt - outcome.n_image,
        },
    }
