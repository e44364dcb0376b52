"""POST /v1/photo: a photo's file in; its score, attributes and critique out, whole or as events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from aesedge.serve.api_error import ApiError
from aesedge.serve.json_body import check_length
from aesedge.serve.question import MOST_TOKENS, Progress, Question, Scored, Words
from aesedge.serve.sse import sse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aesedge.serve.question import Event, Outcome


class PhotoQuery(msgspec.Struct):
    """What the address of a request may say after its question mark."""

    words: bool = True
    """Whether to write a critique, or the answer to ``ask``."""
    ask: str = ""
    """What to write instead of the critique."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)] | None = None
    progress: bool = False
    """Whether a stream says how much of the prefill is done."""


def parse(body: bytes, query: Mapping[str, str], *, stream: bool) -> Question:
    """Read a request.

    Raises:
        ApiError: the query has other fields or values than it may, or there is no body.
    """
    if set(query) - set(PhotoQuery.__struct_fields__):
        message = "the query has words, ask, max_tokens and progress; nothing else"
        raise ApiError(400, message, param="query", code="invalid_value")
    try:
        asked = msgspec.convert(dict(query), PhotoQuery, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        raise ApiError(
            400, f"the query: {message}", param=path.strip("`").removeprefix("$.") or None, code="invalid_value"
        ) from None
    check_length([asked.ask], param="ask")
    if not body:
        raise ApiError(400, "the body is empty; send the photo's file", code="bad_image")
    return Question(
        photo=body,
        text=asked.ask,
        max_tokens=asked.max_tokens,
        words=asked.words,
        score_first=True,
        stream=stream,
        progress=asked.progress and stream,
    )


class PhotoFormat:
    """One photo's result, in the form of ``aesedge run --json``.

    Args:
        question: what was asked.
        model: not used: the result has its bundle.
        fingerprint: not used by this format.
    """

    media_type = "text/event-stream"

    def __init__(self, question: Question, model: str, fingerprint: str) -> None:  # noqa: ARG002 (all formats are made alike)
        self._question = question

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """Return the result."""
        result = dict(outcome.result or {})
        if self._question.words:
            text = outcome.texts[0].strip()
            asked = self._question.text
            result.update({"answers": [{"ask": asked, "answer": text}]} if asked else {"critique": text})
        return result

    def begin(self) -> Iterator[bytes]:
        """Yield nothing: the score is the first event."""
        yield from ()

    def event(self, event: Event) -> Iterator[bytes]:
        """Yield what an event adds to a stream."""
        if isinstance(event, Scored):
            attributes = event.ratings["attributes"]
            yield sse({name: value for name, value in event.ratings.items() if name != "attributes"}, "score")
            yield sse(attributes, "attributes")
        elif isinstance(event, Progress):
            yield sse({"done": round(event.done, 3)}, "progress")
        elif isinstance(event, Words) and event.text:
            yield sse({"text": event.text}, "words")

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """Yield the whole result."""
        yield sse(self.whole(outcome), "done")

    def failed(self, error: ApiError) -> Iterator[bytes]:
        """Yield what ends a stream in which something failed."""
        yield sse(error.openai(), "error")
