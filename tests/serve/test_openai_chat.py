"""OpenAI's chat completions: shapes that clients rely on, and what others got wrong."""

from __future__ import annotations

import json
import math

import pytest
from serving import Answer, Running, data_uri, jpeg, user

from aesedge.bundle.bundle import POCKET, open_bundle

ASK = "What are the faults of this image?"


def text(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.json()["choices"][0]["message"]["content"]


def test_answer_has_the_shape(served: Running) -> None:
    found = served.chat(jpeg(1), ASK).json()
    assert found["object"] == "chat.completion"
    assert found["model"] == "pocket"
    assert found["system_fingerprint"].startswith("fp_")
    (choice,) = found["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 144
    extra = found["aesedge"]
    assert 0 <= extra["score"] <= 10
    assert set(extra["attributes"]) == set(open_bundle(POCKET).manifest.rating.attributes)
    assert extra["cache"] == "cold"


def test_stream_says_the_same(served: Running) -> None:
    whole = served.chat(jpeg(2), ASK)
    answer = served.chat(jpeg(2), ASK, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, done = answer.events()
    assert done == "[DONE]"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    *content, usage = chunks
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == whole.json()["usage"]["completion_tokens"]
    assert all(chunk["usage"] is None for chunk in content)
    choices = [chunk["choices"][0] for chunk in content]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in choice["delta"] for choice in choices[1:])
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == text(whole)
    assert content[-1]["aesedge"]["score"] == whole.json()["aesedge"]["score"]


def test_stream_without_options_has_no_usage(served: Running) -> None:
    *chunks, _done = served.chat("Hi", stream=True, max_tokens=3).events()
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in {"length", "stop"}


@pytest.mark.parametrize(
    "fields", [{"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_tokens": 9, "max_completion_tokens": 3}]
)
def test_token_limits_hold(served: Running, fields: dict[str, int]) -> None:
    found = served.chat(jpeg(1), "Describe it.", **fields).json()
    assert found["usage"]["completion_tokens"] == 3
    assert found["choices"][0]["finish_reason"] == "length"


def test_set_up_check_of_home_assistant(served: Running) -> None:
    """Text alone, with tools, three tokens; first whole and then as a stream (home-assistant/core PR 175580)."""
    tools = [{"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}]
    fields = {"tools": tools, "max_tokens": 3, "model": "pocket"}
    whole = served.chat("Hi", **fields)
    assert text(whole) is not None
    assert "aesedge" not in whole.json()
    assert whole.json()["usage"]["prompt_tokens_details"]["image_tokens"] == 0
    assert served.chat("Hi", stream=True, **fields).events()[-1] == "[DONE]"
    assert served.ask("GET", "/v1/models").json()["data"][0]["id"] == "pocket"


def test_message_of_llmvision(served: Running) -> None:
    """A system message first, "Image 1:" before the image, a strict schema (ha-llmvision, providers.py)."""
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string", "maxLength": 20}, "level": {"type": "integer", "maximum": 99}},
        "required": ["title", "level"],
        "additionalProperties": False,
    }
    body = {
        "model": "pocket",
        "messages": [{"role": "system", "content": "Be short."}, user("Image 1:", jpeg(3), "Describe it.")],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}},
        "max_completion_tokens": 200,
        "temperature": 0.5,
        "top_p": 0.9,
        "stream": False,
    }
    found = json.loads(text(served.ask("POST", "/v1/chat/completions", body)))
    assert isinstance(found["level"], int)
    assert set(found) == {"title", "level"}


def test_several_answers_have_seeds_of_their_own(served: Running) -> None:
    fields = {"n": 3, "temperature": 1.5, "max_tokens": 48, "seed": 7}
    whole = [c["message"]["content"] for c in served.chat(jpeg(4), "Describe it.", **fields).json()["choices"]]
    assert len(set(whole)) > 1
    streamed = served.chat(jpeg(4), "Describe it.", stream=True, **fields).events()
    by_index = ["", "", ""]
    ends = []
    for chunk in streamed[:-1]:
        for choice in chunk["choices"]:
            by_index[choice["index"]] += choice["delta"].get("content", "")
            ends += [choice["index"]] if choice["finish_reason"] else []
    assert sorted(ends) == [0, 1, 2]
    assert all(by_index)


def test_stop_texts_end_it(served: Running) -> None:
    whole = text(served.chat(jpeg(5), ASK))
    word = whole.split()[2]
    cut = served.chat(jpeg(5), ASK, stop=[word])
    assert text(cut) == whole[: whole.index(word)]
    assert cut.json()["choices"][0]["finish_reason"] == "stop"


def test_logprobs_are_those_of_the_model(served: Running) -> None:
    found = served.chat(jpeg(6), ASK, logprobs=True, top_logprobs=5)
    choice = found.json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert len(content) == found.json()["usage"]["completion_tokens"]
    assert bytes(byte for one in content for byte in one["bytes"]).decode().strip() == text(found)
    for one in content:
        tops = [top["logprob"] for top in one["top_logprobs"]]
        assert len(tops) == 5
        assert tops == sorted(tops, reverse=True)
        assert one["logprob"] == tops[0]  # at temperature 0 the likeliest is chosen
        assert sum(map(math.exp, tops)) <= 1 + 1e-9
    streamed = served.chat(jpeg(6), ASK, logprobs=True, top_logprobs=5, stream=True).events()[:-1]
    parts = [one for c in streamed if c["choices"][0]["logprobs"] for one in c["choices"][0]["logprobs"]["content"]]
    assert [one["token"] for one in parts] == [one["token"] for one in content]
    assert [one["logprob"] for one in parts] == pytest.approx([one["logprob"] for one in content], abs=1e-2)


def test_forced_tokens_have_logprobs_too(served: Running) -> None:
    schema = {"type": "object", "properties": {"sharpness": {"enum": ["good", "bad"]}}, "required": ["sharpness"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found = served.chat(jpeg(6), ASK, response_format=wanted, logprobs=True).json()
    content = found["choices"][0]["logprobs"]["content"]
    assert len(content) == found["usage"]["completion_tokens"]
    assert json.loads(found["choices"][0]["message"]["content"])["sharpness"] in {"good", "bad"}
    assert min(one["logprob"] for one in content) < -1  # the model alone would not have written it


def test_a_conversation_costs_its_new_words(served: Running) -> None:
    """Clients send everything anew; what was computed for the turn before is found again, and says the same."""
    photo = jpeg(7)
    first = served.chat(photo, ASK)
    turns = [user(photo, ASK), {"role": "assistant", "content": text(first)}, user("Why?")]
    again = served.ask("POST", "/v1/chat/completions", {"messages": turns})
    usage = again.json()["usage"]
    before = first.json()["usage"]
    assert again.json()["aesedge"]["cache"] == "kv"
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached >= before["prompt_tokens"] + before["completion_tokens"] - 1
    assert usage["prompt_tokens"] - cached < 20
    for known in served.session.photos.take_unused():
        known.close()
    fresh = served.ask("POST", "/v1/chat/completions", {"messages": turns})
    assert fresh.json()["usage"]["prompt_tokens_details"]["cached_tokens"] < cached
    assert fresh.json()["usage"]["prompt_tokens"] == usage["prompt_tokens"]
    assert text(fresh) == text(again)


def test_the_critique_is_a_turn_too(served: Running) -> None:
    """A photo without a text asks for the critique; what is asked after it continues from there."""
    photo = jpeg(8)
    first = served.chat(photo)
    turns = [user(photo), {"role": "assistant", "content": text(first)}, user("Why?")]
    usage = served.ask("POST", "/v1/chat/completions", {"messages": turns}).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= first.json()["usage"]["prompt_tokens"]


def test_text_alone_is_a_conversation_too(served: Running) -> None:
    first = served.chat("Hello there")
    turns = [user("Hello there"), {"role": "assistant", "content": text(first)}, user("And now?")]
    usage = served.ask("POST", "/v1/chat/completions", {"messages": turns}).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= first.json()["usage"]["prompt_tokens"]


def image(url: object) -> dict[str, object]:
    return {"messages": [user({"type": "image_url", "image_url": url})]}


def schema(value: object) -> dict[str, object]:
    return {"messages": [user("x")], "response_format": {"type": "json_schema", "json_schema": value}}


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "an http address": (image({"url": "http://x/a.jpg"}), "image_url"),
    "an https address": (image({"url": "HTTPS://x/a.jpg"}), "image_url"),
    "a file": (image("file:///etc/passwd"), "image_url"),
    "a path": (image("/etc/passwd"), "bad_image"),
    "two images": ({"messages": [user(b"one", b"two")]}, "too_many_images"),
    "an image later": (
        {"messages": [user(b"1"), {"role": "assistant", "content": "x"}, user(b"2")]},
        "too_many_images",
    ),
    "no base64": (image("data:image/png;base64,@@@"), "bad_image"),
    "a data URI of text": (image("data:image/png,x"), "bad_image"),
    "an empty image": (image("data:;base64,"), "bad_image"),
    "no messages": ({"messages": []}, "invalid_value"),
    "no question": ({"messages": [{"role": "assistant", "content": "x"}]}, "no_question"),
    "an empty question": ({"messages": [user("  ")]}, "no_question"),
    "a tool's answer": ({"messages": [{"role": "tool", "content": "x"}, user("x")]}, "role"),
    "a part of another kind": ({"messages": [user({"type": "input_audio"})]}, "part"),
    "a tool that must be called": ({"messages": [user("x")], "tool_choice": "required"}, "tools"),
    "a named tool": ({"messages": [user("x")], "tool_choice": {"type": "function"}}, "tools"),
    "top_logprobs alone": ({"messages": [user("x")], "top_logprobs": 2}, "invalid_value"),
    "too many logprobs": ({"messages": [user("x")], "logprobs": True, "top_logprobs": 21}, "invalid_value"),
    "too many answers": ({"messages": [user("x")], "n": 5}, "invalid_value"),
    "no answers": ({"messages": [user("x")], "n": 0}, "invalid_value"),
    "a negative limit": ({"messages": [user("x")], "max_tokens": -1}, "invalid_value"),
    "a huge number": ({"messages": [user("x")], "max_tokens": 10**30}, "invalid_value"),
    "heat": ({"messages": [user("x")], "temperature": 2.1}, "invalid_value"),
    "too much text": ({"messages": [user("x" * 300_000)]}, "context_length_exceeded"),
    "more text than fits": ({"messages": [user("word " * 4000)]}, "context_length_exceeded"),
    "a schema that is none": (schema({"schema": {"type": "nonsense"}}), "invalid_schema"),
    "a schema that cannot be kept to": (schema({"schema": {"not": {}}}), "invalid_schema"),
    "no schema": (schema(None), "invalid_schema"),
    "a format of another kind": ({"messages": [user("x")], "response_format": {"type": "grammar"}}, "invalid_value"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(served: Running, name: str, stream: bool) -> None:
    body, code = REFUSED[name]
    answer = served.ask("POST", "/v1/chat/completions", {**body, "stream": stream})
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (400, code), error
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"
    assert len(error["message"]) > 15


def test_another_model_is_not_there(served: Running) -> None:
    for name in ("gpt-4o", "../pocket", "pocket/../x", ""):
        answer = served.chat("Hi", model=name)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert served.chat("Hi", model="pocket:latest", max_tokens=1).status == 200
    assert served.ask("GET", "/v1/models/pocket").json()["id"] == "pocket"
    assert served.ask("GET", "/v1/models/other").status == 404


NO_JSON = [b"", b"{", b"\xff", b"null", b"[]", b'"x"', b"[" * 100_000, b'{"messages": "\\ud800"}', b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_is_refused(served: Running, body: bytes) -> None:
    answer = served.ask("POST", "/v1/chat/completions", body, content_type="application/json")
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_images_may_be_plain_strings_and_come_twice(served: Running) -> None:
    """As in Ollama's own documentation; and Open WebUI sends all images with each turn."""
    url = data_uri(jpeg(9))
    part = {"type": "image_url", "image_url": url}
    first = served.chat(part, "Hi", max_tokens=2)
    assert first.json()["aesedge"]["score"]
    turns = [user(part, "Hi"), {"role": "assistant", "content": "x"}, user(part, "Why?")]
    assert served.ask("POST", "/v1/chat/completions", {"messages": turns, "max_tokens": 2}).status == 200
