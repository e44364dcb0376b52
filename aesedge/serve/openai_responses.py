"""OpenAI's Responses, without stored state: bodies to questions, outcomes to bodies and events.

Source: openai-python, ``src/openai/types/responses``.
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
    Model,
    Probability,
    Temperature,
    Tokens,
    check_model,
    check_tool_choice,
    format_grammar,
    read_body,
)
from aesedge.serve.messages import Message, dialogue
from aesedge.serve.question import Question, Words, openai_reason
from aesedge.serve.sse import sse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.serve.question import Event, Outcome


class ResponsePart(msgspec.Struct):
    """A piece of an item: text, an image, or an earlier answer."""

    type: str
    text: str | None = None
    image_url: str | None = None


class Item(msgspec.Struct):
    """An item of the input."""

    role: str | None = None
    type: str = "message"
    content: str | Annotated[list[ResponsePart], msgspec.Meta(max_length=MOST_PARTS)] | None = None


class TextFormat(msgspec.Struct):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


class Text(msgspec.Struct):
    """How text is written."""

    format: TextFormat | None = None


class ResponsesBody(msgspec.Struct):
    """Body of POST /v1/responses; fields that are not named here are ignored."""

    input: str | Annotated[list[Item], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)]
    model: Model | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    text: Text | None = None
    stream: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    background: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


def parse(body: bytes, model: str) -> Question:
    """Read a body.

    Raises:
        ApiError: 400, something in it cannot be answered; 404, it names another model.
    """
    asked = read_body(body, ResponsesBody)
    check_model(asked.model, model)
    for field in ("previous_response_id", "conversation", "background"):
        if getattr(asked, field):
            raise ApiError(
                400,
                "responses are not stored here; send the whole conversation as input",
                param=field,
                code="stateless",
            )
    check_tool_choice(asked.tool_choice)
    items = [Item("user", content=asked.input)] if isinstance(asked.input, str) else asked.input
    messages = [Message("system", asked.instructions)] if asked.instructions else []
    talk = dialogue([*messages, *(_message(item, i) for i, item in enumerate(items))], param="input")
    wanted = asked.text.format if asked.text else None
    grammar = None
    if wanted is not None:
        grammar = format_grammar(wanted.type, wanted.schema, param="text.format", schema_param="text.format.schema")
    return Question(
        photo=talk.photo,
        turns=talk.turns,
        text=talk.text,
        max_tokens=asked.max_output_tokens,
        temperature=asked.temperature or 0.0,
        top_p=asked.top_p or None,
        grammar=grammar,
        stream=bool(asked.stream),
    )


def _message(item: Item, i: int) -> Message:
    if item.type != "message" or item.role is None:
        raise ApiError(400, "an item is {role, content}; tools are not called", param=f"input[{i}]", code="item")
    if not isinstance(item.content, list):
        return Message(item.role, item.content or "")
    texts, images = [], []
    for j, part in enumerate(item.content):
        where = f"input[{i}].content[{j}]"
        if part.type in {"input_text", "output_text", "text"} and part.text is not None:
            texts.append(part.text)
        elif part.type == "input_image" and part.image_url is not None:
            images.append(check_image_text(part.image_url, param=f"{where}.image_url", needs_uri=True))
        else:
            raise ApiError(
                400, "a part is {type: input_text, text} or {type: input_image, image_url}", param=where, code="part"
            )
    return Message(item.role, "\n".join(texts), tuple(images))


class ResponsesFormat:
    """One answer in the form of Responses.

    Args:
        question: what was asked.
        model: its name.
        fingerprint: not used by this format.
    """

    media_type = "text/event-stream"

    def __init__(self, question: Question, model: str, fingerprint: str) -> None:  # noqa: ARG002 (all formats are made alike)
        self._question, self._model = question, model
        self._id, self._item = f"resp_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._n_events = 0
        self._text = ""

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        cut = openai_reason(outcome.reasons[0]) == "length"
        details = {"incomplete_details": {"reason": "max_output_tokens"}} if cut else {}
        status = "incomplete" if cut else "completed"
        body = self._response(status, [self._message(outcome.texts[0], status)], usage=_usage(outcome), **details)
        return {**body, **outcome.extra()}

    def begin(self) -> Iterator[bytes]:
        """Yield what begins a stream."""
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        item = {**self._message("", "in_progress"), "content": []}
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._place(), part=_part(""))

    def event(self, event: Event) -> Iterator[bytes]:
        """Yield what an event adds to a stream."""
        if isinstance(event, Words) and event.text:
            self._text += event.text
            yield self._event("response.output_text.delta", **self._place(), delta=event.text, logprobs=[])

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield what ends a stream."""
        text = outcome.texts[0]
        whole = self.whole(outcome)
        yield self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=_part(text))
        yield self._event("response.output_item.done", output_index=0, item=whole["output"][0])
        yield self._event(f"response.{whole['status']}", response=whole)

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """Yield what ends a stream in which something failed."""
        told = {"code": error.code or "server_error", "message": error.message}
        yield self._event("response.failed", response=self._response("failed", [], error=told))

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._n_events += 1
        return sse({"type": kind, "sequence_number": self._n_events - 1, **fields}, kind)

    def _message(self, text: str, status: str) -> dict[str, Any]:
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": [_part(text)]}

    def _response(self, status: str, output: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._model,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "temperature": self._question.temperature,
            "top_p": self._question.top_p,
            "tool_choice": "none",
            "tools": [],
            "store": False,
            "usage": None,
            **fields,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(outcome: Outcome) -> dict[str, Any]:
    return {
        "input_tokens": outcome.n_prompt,
        "input_tokens_details": {"cached_tokens": outcome.n_cached},
        "output_tokens": outcome.n_generated,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": outcome.n_prompt + outcome.n_generated,
    }
