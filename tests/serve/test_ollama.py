"""Ollama's interface, as photo tools use it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from serving import jpeg

if TYPE_CHECKING:
    from serving import Running


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def generate(served: Running, **fields: Any) -> Any:
    return served.ask("POST", "/api/generate", {"model": "pocket", **fields})


def test_body_of_photoprism(served: Running) -> None:
    """One image a request, lines of JSON, a stop text (internal/ai/vision/ollama)."""
    answer = generate(
        served, prompt="Describe it.", images=[b64(jpeg(1))], options={"stop": ["\n\n"], "num_predict": 20}
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    *pieces, last = answer.lines()
    assert all(piece["done"] is False and piece["response"] for piece in pieces)
    assert (last["done"], last["response"]) == (True, "")
    assert last["done_reason"] in {"stop", "length"}
    assert last["eval_count"] <= 20
    assert last["prompt_eval_count"] > 144
    assert last["total_duration"] >= last["eval_duration"] > 0
    assert 0 <= last["aesedge"]["score"] <= 10
    whole = generate(served, prompt="Describe it.", images=[b64(jpeg(1))], options={"num_predict": 20}, stream=False)
    assert whole.json()["response"] == "".join(piece["response"] for piece in pieces)


def test_body_of_lrgeniusai(served: Running) -> None:
    """/api/tags, then /api/chat without a stream and with a schema."""
    (model,) = served.ask("GET", "/api/tags").json()["models"]
    assert model["details"]["quantization_level"] == "Q8_0"
    schema = {"type": "object", "properties": {"keyword": {"enum": ["dark", "light"]}}, "required": ["keyword"]}
    body = {
        "model": model["name"],
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Is it dark?", "images": [b64(jpeg(2))]},
        ],
        "format": schema,
        "stream": False,
        "options": {"temperature": 0.1, "num_ctx": 4096},
        "keep_alive": "5m",
    }
    answer = served.ask("POST", "/api/chat", body).json()
    assert answer["message"]["role"] == "assistant"
    assert json.loads(answer["message"]["content"])["keyword"] in {"dark", "light"}
    assert answer["done_reason"] == "stop"
    assert "aesedge" in answer


def test_what_clients_look_at_first(served: Running) -> None:
    assert served.ask("GET", "/").body == b"Ollama is running"
    assert served.ask("HEAD", "/").status == 200
    assert served.ask("GET", "/api/version").json()["version"].count(".") == 2
    shown = served.ask("POST", "/api/show", {"model": "pocket"}).json()
    assert "vision" in shown["capabilities"]
    assert shown["model_info"]["llava.context_length"] > 500
    assert served.ask("POST", "/api/show", {"name": "pocket:latest"}).status == 200
    assert served.ask("GET", "/api/ps").json()["models"][0]["model"] == "pocket:latest"


def test_loading_is_asked_for_without_a_prompt(served: Running) -> None:
    for path in ("generate", "chat"):
        answer = served.ask("POST", f"/api/{path}", {"model": "pocket"})
        assert (answer.json()["done"], answer.json()["done_reason"]) == (True, "load")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("chat", {"model": "llava", "messages": [{"role": "user", "content": "x"}]}, 404),
        ("chat", {"messages": [{"role": "user", "content": "x"}]}, 400),
        ("generate", {"model": "../../x", "prompt": "x"}, 404),
        ("generate", {"model": "pocket", "prompt": "x", "images": ["http://x/y.jpg"]}, 400),
        ("generate", {"model": "pocket", "prompt": "x", "images": ["@@@@"]}, 400),
        ("generate", {"model": "pocket", "prompt": "x", "images": [b64(b"1"), b64(b"2")]}, 400),
        ("generate", {"model": "pocket", "prompt": "x", "options": {"num_predict": -3}}, 400),
        ("generate", {"model": "pocket", "prompt": "x", "options": {"num_predict": 0}}, 400),
        ("generate", {"model": "pocket", "prompt": "x", "format": "xml"}, 400),
        ("generate", {"model": "pocket", "prompt": "x", "format": {"type": "nonsense"}}, 400),
        ("show", {"model": "llava"}, 404),
        ("show", {}, 400),
    ],
)
def test_refusals_have_ollamas_form(served: Running, path: str, body: dict[str, Any], status: int) -> None:
    answer = served.ask("POST", f"/api/{path}", body)
    assert answer.status == status
    assert set(answer.json()) == {"error"}
    assert isinstance(answer.json()["error"], str)
