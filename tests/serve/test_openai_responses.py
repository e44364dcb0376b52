"""OpenAI's Responses, without stored state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from serving import data_uri, jpeg

if TYPE_CHECKING:
    from serving import Running


def asked(seed: int, **fields: Any) -> dict[str, Any]:
    content = [
        {"type": "input_text", "text": "Describe it."},
        {"type": "input_image", "image_url": data_uri(jpeg(seed)), "detail": "low"},
    ]
    return {"model": "pocket", "input": [{"role": "user", "content": content}], **fields}


def respond(served: Running, body: dict[str, Any]) -> Any:
    return served.ask("POST", "/v1/responses", body)


def test_body_of_photoprism(served: Running) -> None:
    """A data URI, a schema, a limit (internal/ai/vision/openai)."""
    schema = {"type": "object", "properties": {"title": {"type": "string", "maxLength": 12}}, "required": ["title"]}
    wanted = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
    found = respond(served, asked(1, text=wanted, max_output_tokens=512)).json()
    assert (found["object"], found["status"]) == ("response", "completed")
    assert set(json.loads(found["output"][0]["content"][0]["text"])) == {"title"}
    assert found["usage"]["input_tokens"] > 144
    assert found["aesedge"]["score"] >= 0


def test_events_come_in_order(served: Running) -> None:
    whole = respond(served, asked(2)).json()
    events = respond(served, asked(2, stream=True)).events()
    names = [event["type"] for event in events]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(deltas) == whole["output"][0]["content"][0]["text"]
    assert events[-1]["response"]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_what_is_cut_is_incomplete(served: Running) -> None:
    found = respond(served, asked(3, max_output_tokens=2)).json()
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert respond(served, asked(3, max_output_tokens=2, stream=True)).events()[-1]["type"] == "response.incomplete"


def test_earlier_answers_are_turns(served: Running) -> None:
    first = respond(served, {"input": "Hello", "instructions": "Be short."}).json()
    turns = [
        {"role": "user", "content": "Hello"},
        {"type": "message", "role": "assistant", "content": first["output"][0]["content"]},
        {"role": "user", "content": "And now?"},
    ]
    again = respond(served, {"input": turns, "instructions": "Be short."}).json()
    assert again["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]}, "input[0].content[0]"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ],
)
def test_refusals_name_the_field(served: Running, fields: dict[str, Any], param: str) -> None:
    answer = respond(served, {"input": "x", **fields})
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
