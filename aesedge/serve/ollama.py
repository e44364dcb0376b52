"""Ollama's chat and generate: bodies to questions, outcomes to bodies and lines of JSON.

Source: Ollama, ``docs/api.md``. A stream is what a client gets that asks for nothing.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from aesedge.serve.api_error import ApiError
from aesedge.serve.image_data import check_image_text
from aesedge.serve.json_body import (
    MOST_MESSAGES,
    MOST_PARTS,
    Model,
    Probability,
    Seed,
    Stop,
    Temperature,
    TopK,
    check_model,
    read_body,
    schema_grammar,
    seed_in_range,
    stops,
)
from aesedge.serve.messages import Message, dialogue
from aesedge.serve.question import MOST_TOKENS, Question, Words, openai_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.llm import Grammar
    from aesedge.serve.question import Event, Outcome

Images = Annotated[list[str], msgspec.Meta(max_length=MOST_PARTS)]
Format = Literal["", "json"] | dict[str, Any]


class OllamaOptions(msgspec.Struct):
    """How an answer is written."""

    num_predict: Annotated[int, msgspec.Meta(ge=-2, le=MOST_TOKENS)] | None = None
    """-1 and -2, no limit of its own, take the context's."""
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: TopK | None = None
    min_p: Probability | None = None
    seed: Seed | None = None
    stop: Stop | None = None


class OllamaMessage(msgspec.Struct):
    """A message with its images, in base64."""

    role: str
    content: str = ""
    images: Images | None = None


class OllamaChatBody(msgspec.Struct):
    """Body of POST /api/chat; fields that are not named here are ignored."""

    model: Model
    messages: Annotated[list[OllamaMessage], msgspec.Meta(max_length=MOST_MESSAGES)] = []
    stream: bool | None = None
    format: Format | None = None
    options: OllamaOptions | None = None


class OllamaGenerateBody(msgspec.Struct):
    """Body of POST /api/generate; fields that are not named here are ignored."""

    model: Model
    prompt: str = ""
    system: str = ""
    images: Images | None = None
    stream: bool | None = None
    format: Format | None = None
    options: OllamaOptions | None = None


class ShowBody(msgspec.Struct):
    """Body of POST /api/show; older clients say ``name``."""

    model: Model | None = None
    name: Model | None = None


def parse_chat(body: bytes, model: str) -> Question:
    """Read a body of /api/chat; without messages it only asks whether the model is there.

    Raises:
        ApiError: 400, something in it cannot be answered; 404, it names another model.
    """
    asked = read_body(body, OllamaChatBody)
    check_model(asked.model, model)
    if not asked.messages:
        return Question(words=False, stream=False, extra={"load": True})
    messages = [Message(m.role, m.content, _images(m.images, f"messages[{i}]")) for i, m in enumerate(asked.messages)]
    return _question(messages, asked)


def parse_generate(body: bytes, model: str) -> Question:
    """Read a body of /api/generate; without prompt and image it only asks whether the model is there.

    Raises:
        ApiError: 400, something in it cannot be answered; 404, it names another model.
    """
    asked = read_body(body, OllamaGenerateBody)
    check_model(asked.model, model)
    if not asked.prompt and not asked.images:
        return Question(words=False, stream=False, extra={"load": True})
    system = [Message("system", asked.system)] if asked.system else []
    return _question([*system, Message("user", asked.prompt, _images(asked.images, "images"))], asked)


def _images(images: Sequence[str] | None, param: str) -> tuple[str, ...]:
    return tuple(check_image_text(image, param=param, needs_uri=False) for image in images or [])


def _question(messages: Sequence[Message], asked: OllamaChatBody | OllamaGenerateBody) -> Question:
    talk = dialogue(messages, param="messages")
    options = asked.options or OllamaOptions()
    n_predict = options.num_predict
    if n_predict == 0:
        raise ApiError(400, "num_predict is 0: no text is wanted", param="options.num_predict", code="invalid_value")
    return Question(
        photo=talk.photo,
        turns=talk.turns,
        text=talk.text,
        max_tokens=MOST_TOKENS if n_predict is not None and n_predict < 0 else n_predict,
        temperature=options.temperature or 0.0,
        top_p=options.top_p or None,
        top_k=options.top_k,
        min_p=options.min_p,
        seed=seed_in_range(options.seed),
        stop=stops(options.stop),
        grammar=_grammar(asked.format),
        stream=asked.stream is not False,
    )


def _grammar(wanted: str | dict[str, Any] | None) -> Grammar | None:
    if not wanted:
        return None
    return schema_grammar(wanted if isinstance(wanted, dict) else None, param="format")


class OllamaFormat:
    """One answer in Ollama's form.

    Args:
        question: what was asked.
        model: its name.
        fingerprint: not used by this format.
    """

    media_type = "application/x-ndjson"
    is_chat = True

    def __init__(self, question: Question, model: str, fingerprint: str) -> None:  # noqa: ARG002 (all formats are made alike)
        self._question, self._model = question, model

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        if self._question.extra.get("load"):
            return {**self._line(""), "done": True, "done_reason": "load"}
        return {**self._line(outcome.texts[0]), **self._last(outcome)}

    def begin(self) -> Iterator[bytes]:
        """Yield nothing: each line stands by itself."""
        yield from ()

    def event(self, event: Event) -> Iterator[bytes]:
        """Yield what an event adds to a stream."""
        if isinstance(event, Words) and event.text:
            yield msgspec.json.encode({**self._line(event.text), "done": False}) + b"\n"

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield what ends a stream."""
        yield msgspec.json.encode({**self._line(""), **self._last(outcome)}) + b"\n"

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """Yield what ends a stream in which something failed."""
        yield msgspec.json.encode(error.ollama()) + b"\n"

    def _line(self, text: str) -> dict[str, Any]:
        said: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text}} if self.is_chat else {"response": text}
        )
        return {"model": self._model, "created_at": now(), **said}

    def _last(self, outcome: Outcome) -> dict[str, Any]:
        last: dict[str, Any] = {
            "done": True,
            "done_reason": openai_reason(outcome.reasons[0]),
            "total_duration": int(outcome.total_s * 1e9),
            "load_duration": int(outcome.load_s * 1e9),
            "prompt_eval_count": outcome.n_prompt,
            "prompt_eval_duration": int(outcome.prefill_s * 1e9),
            "eval_count": outcome.n_generated,
            "eval_duration": int(outcome.generate_s * 1e9),
        }
        return {**last, **outcome.extra()}


class OllamaGenerateFormat(OllamaFormat):
    """One answer in the form of /api/generate."""

    is_chat = False


def now() -> str:
    """Return the time in the form in which Ollama writes it."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
