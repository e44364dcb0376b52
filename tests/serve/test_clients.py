"""The official clients of OpenAI and Ollama, and LangChain's, against a server with a key."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

import pytest
from serving import KEY, data_uri, jpeg, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving import Running

pytestmark = [
    # of the clients, which leave their pools of connections to the interpreter, and of what they build on
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with serving(keys=(KEY.encode(),)) as running:
        yield running


def messages(seed: int, text: str = "What are the faults?") -> Any:
    image = {"type": "image_url", "image_url": {"url": data_uri(jpeg(seed)), "detail": "low"}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]


@pytest.fixture
def openai_client(locked: Running) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{locked.address}/v1", api_key=KEY) as client:
        yield client


def test_openai_chat(openai_client: Any) -> None:
    assert [model.id for model in openai_client.models.list()] == ["pocket"]
    whole = openai_client.chat.completions.create(model="pocket", messages=messages(1))
    assert 0 <= whole.aesedge["score"] <= 10
    assert whole._request_id
    chunks = list(
        openai_client.chat.completions.create(
            model="pocket", messages=messages(1), stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_openai_parses_a_pydantic_model(openai_client: Any) -> None:
    pydantic = pytest.importorskip("pydantic")
    verdict = pydantic.create_model("Verdict", sharp=(bool, ...), stars=(int, pydantic.Field(ge=0, le=5)))
    parsed = openai_client.chat.completions.parse(model="pocket", messages=messages(2), response_format=verdict)
    assert 0 <= parsed.choices[0].message.parsed.stars <= 5


def test_openai_logprobs_and_choices(openai_client: Any) -> None:
    found = openai_client.chat.completions.create(
        model="pocket", messages=messages(3), n=2, temperature=1, seed=1, logprobs=True, top_logprobs=2, max_tokens=5
    )
    assert [len(choice.logprobs.content[0].top_logprobs) for choice in found.choices] == [2, 2]


def test_openai_responses(openai_client: Any) -> None:
    image = {"type": "input_image", "image_url": data_uri(jpeg(4)), "detail": "auto"}
    content = [{"type": "input_text", "text": "Describe it."}, image]
    asked: Any = {"model": "pocket", "input": [{"role": "user", "content": content}]}
    whole = openai_client.responses.create(**asked)
    assert whole.output_text
    with openai_client.responses.stream(**asked) as stream:
        assert stream.get_final_response().output_text == whole.output_text


def test_openai_errors_are_its_own(openai_client: Any, locked: Running) -> None:
    import openai

    with pytest.raises(openai.NotFoundError, match="pocket"):
        openai_client.chat.completions.create(model="gpt-4o", messages=messages(1))
    url = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.jpg"}}]}]
    with pytest.raises(openai.BadRequestError, match="send the photo itself") as refused:
        openai_client.chat.completions.create(model="pocket", messages=url)
    assert refused.value.code == "image_url"
    with (
        openai.OpenAI(base_url=f"{locked.address}/v1", api_key="wrong") as wrong,
        pytest.raises(openai.AuthenticationError),
    ):
        wrong.models.list()


def test_ollama_client(locked: Running, tmp_path: Path) -> None:
    ollama = pytest.importorskip("ollama")
    with ollama.Client(locked.address, headers={"authorization": f"Bearer {KEY}"}) as client:
        path = tmp_path / "a.jpg"
        path.write_bytes(jpeg(5))
        assert client.list().models[0].model == "pocket:latest"
        assert "vision" in client.show("pocket").capabilities
        asked: Any = [{"role": "user", "content": "What are the faults?", "images": [str(path)]}]
        whole = client.chat("pocket", messages=asked)
        pieces = list(client.chat("pocket", messages=asked, stream=True))
        assert "".join(piece.message.content for piece in pieces) == whole.message.content
        assert pieces[-1].done_reason == "stop"
        assert client.generate(
            "pocket", "Describe it.", images=[path.read_bytes()], options={"num_predict": 4}
        ).response
        with pytest.raises(ollama.ResponseError, match="pocket"):
            client.chat("llava", messages=asked)


def test_langchain(locked: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "LANGSMITH_TRACING", "false")
    langchain_openai = pytest.importorskip("langchain_openai")
    model = langchain_openai.ChatOpenAI(base_url=f"{locked.address}/v1", api_key=KEY, model="pocket", max_tokens=20)
    image = {"type": "image", "base64": base64.b64encode(jpeg(6)).decode(), "mime_type": "image/jpeg"}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": "Describe it."}, image]}]
    whole = model.invoke(asked)
    assert whole.content
    assert whole.usage_metadata["input_tokens"] > 144
    assert "".join(str(piece.content) for piece in model.stream(asked)) == whole.content
    model.root_client.close()
