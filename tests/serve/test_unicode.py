"""Letters and emoji whose bytes are several tokens: no stream ever has a part of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from serving import user

from aesedge.serve.answer_events import AnswerEvents

if TYPE_CHECKING:
    from serving import Running

WORDS = "\U0001f4f7\U0001f469\u200d\U0001f3a8 \u65e5\u672c\u8a9e \u0152\u0449 \U0001f1eb\U0001f1ee"
SCHEMA = {"type": "object", "properties": {"x": {"const": WORDS}}, "required": ["x"], "additionalProperties": False}
OPENAI = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine hands over; pieces that come within a moment are joined on their way to the client."""
    found: list[str] = []
    hand_over = AnswerEvents._hand_over

    def record(self: AnswerEvents, index: int | None, came: Any) -> None:
        found.extend([came] if isinstance(came, str) else [])
        hand_over(self, index, came)

    monkeypatch.setattr(AnswerEvents, "_hand_over", record)
    return found


def chat(served: Running) -> tuple[bytes, list[str]]:
    body = {"messages": [user("x")], "response_format": OPENAI, "stream": True}
    answer = served.ask("POST", "/v1/chat/completions", body)
    return answer.body, [chunk["choices"][0]["delta"].get("content", "") for chunk in answer.events()[:-1]]


def responses(served: Running) -> tuple[bytes, list[str]]:
    wanted = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    answer = served.ask("POST", "/v1/responses", {"input": "x", "text": wanted, "stream": True})
    deltas = [one["delta"] for one in answer.events() if one["type"] == "response.output_text.delta"]
    return answer.body, deltas


def ollama_chat(served: Running) -> tuple[bytes, list[str]]:
    body = {"model": "pocket", "messages": [user("x")], "format": SCHEMA}
    answer = served.ask("POST", "/api/chat", body)
    return answer.body, [line["message"]["content"] for line in answer.lines()]


def ollama_generate(served: Running) -> tuple[bytes, list[str]]:
    answer = served.ask("POST", "/api/generate", {"model": "pocket", "prompt": "x", "format": SCHEMA})
    return answer.body, [line["response"] for line in answer.lines()]


@pytest.mark.parametrize("ask", [chat, responses, ollama_chat, ollama_generate])
def test_no_part_of_a_letter_is_sent(served: Running, pieces: list[str], ask: Any) -> None:
    body, sent = ask(served)
    assert "".join(sent) == "".join(pieces)
    assert json.loads("".join(sent)) == {"x": WORDS}
    assert WORDS in "".join(sent)  # as letters, not as escapes
    assert set(WORDS) - set(pieces) <= set("\u200d ")  # each letter came by itself, when its last byte was there
    assert "\ufffd" not in body.decode()
    for line in body.split(b"\n"):
        line.decode()  # whole lines, as clients read them


def test_logprobs_have_the_bytes_of_parts(served: Running) -> None:
    """A token that is a part of a letter has no text of its own; its bytes say what it is."""
    body = {"messages": [user("x")], "response_format": OPENAI, "logprobs": True}
    whole = served.ask("POST", "/v1/chat/completions", body).json()["choices"][0]
    tokens = [bytes(one["bytes"]) for one in whole["logprobs"]["content"]]
    assert b"".join(tokens).decode().strip() == whole["message"]["content"].strip()
    assert any(
        token and not token.isascii() and b"\xef\xbf\xbd" in token.decode("utf-8", "replace").encode()
        for token in tokens
    )
    events = served.ask("POST", "/v1/chat/completions", {**body, "stream": True}).events()[:-1]
    choices = [event["choices"][0] for event in events]
    streamed = [bytes(one["bytes"]) for one in choices if one["logprobs"] for one in one["logprobs"]["content"]]
    assert streamed == tokens


def test_stop_texts_may_be_parts_of_words_in_any_script(served: Running) -> None:
    body = {"messages": [user("x")], "response_format": OPENAI, "stop": ["\u672c"], "stream": True}
    events = served.ask("POST", "/v1/chat/completions", body).events()[:-1]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text.endswith("\u65e5")
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
