"""What is found out about a photo: ratings, texts, and all of it as one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from aesedge.engine.timings import Timings  # noqa: TC001 (msgspec reads the annotations)
from aesedge.system.json_line import json_line, name_bytes

if TYPE_CHECKING:
    from aesedge.errors import AesedgeError

S = TypeVar("S")
T = TypeVar("T")
CacheState = Literal["cold", "embeddings", "kv"]
FinishReason = Literal["stop", "length", "deadline", "cancelled"]


@dataclass(frozen=True)
class Rating:
    """What the model thinks in answer to one question."""

    score: float
    """0 to 10, higher is better."""
    probabilities: dict[str, float]
    """Label to probability; they sum to 1. JSON calls them ``rating``."""
    entropy: float
    """Of those probabilities, in nats: 0 is certain, ln(number of labels) is undecided."""
    off_label: float
    """Probability, 0 to 1, that the model would have answered with none of the labels."""


@dataclass(frozen=True)
class AskedAnswer:
    """A question of the user and its answer."""

    ask: str
    answer: str


@dataclass(frozen=True)
class Report:
    """A structured critique, in whole sentences."""

    attributes: dict[str, str]
    """Attribute of the bundle to what is said of it."""
    strengths: tuple[str, ...]
    faults: tuple[str, ...]
    advice: str


@dataclass(frozen=True, kw_only=True)
class PhotoResult:
    """Everything about one photo; one line of ``--json``."""

    photo: Annotated[
        str, msgspec.Meta(description=r"Its name as it was given; bytes of it that are not UTF-8 are written as \xe9.")
    ]
    photo_bytes: (
        Annotated[
            str, msgspec.Meta(description="The name's bytes, percent-encoded; only there where they are not UTF-8.")
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    bundle: str
    gguf: str
    vision: str
    image_tokens: int
    seen: Annotated[
        Literal["photo", "preview"],
        msgspec.Meta(description="Whether the photo was decoded, or the camera's preview in its file (RAW, HEIC)."),
    ] = "photo"
    cache: CacheState
    """What was known of the photo before: nothing (``cold``), its ``embeddings``, or its ``kv`` too."""
    remarks: tuple[str, ...] = ()
    """What is to be said of the file: damage that its decoder found, and what had to be guessed or left out."""
    score: float
    probabilities: dict[str, float]
    """Label to probability; they sum to 1. JSON calls them ``rating``."""
    entropy: float
    off_label: float
    attributes: dict[str, Rating]
    critique: str | None = None
    report: Report | None = None
    answers: tuple[AskedAnswer, ...] = ()
    finish_reason: str | None = None
    """How the last text ended: ``stop`` by itself, ``length`` at ``--max-tokens``, ``deadline``; null without text."""
    timings: Timings

    def to_builtins(self) -> dict[str, Any]:
        """Return what its JSON holds, numbers rounded to what is meaningful."""
        values = _rounded(_json_names(msgspec.to_builtins(self)))
        values["attributes"] = {name: _json_names(rating) for name, rating in values["attributes"].items()}
        return {**photo_fields(values.pop("photo")), **values}

    def to_json(self) -> str:
        """Return one line of JSON, in text that can be written as UTF-8."""
        return json_line(self.to_builtins())

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return the JSON schema of :meth:`to_json`, which is docs/photo-result.schema.json."""
        schema: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(PhotoResult)))
        for part in (schema["$defs"]["PhotoResult"], schema["$defs"]["Rating"]):
            part["properties"] = _json_names(part["properties"])
            part["required"] = list(_json_names(dict.fromkeys(part["required"])))
        return schema


if TYPE_CHECKING:

    class Outcome(NamedTuple, Generic[S, T]):
        """What came of one photo of many: a value or an error."""

        source: S
        value: T | None
        error: AesedgeError | None

else:  # a generic NamedTuple needs Python 3.11

    class Outcome(NamedTuple):
        """What came of one photo of many: a value or an error."""

        source: Any
        """As it was given."""
        value: Any
        """None where there is an error."""
        error: Any
        """The AesedgeError of this photo, or None."""


def photo_fields(name: str) -> dict[str, str]:
    """Return the fields by which every line of JSON calls a photo."""
    as_bytes = name_bytes(name)
    return {"photo": name} if as_bytes is None else {"photo": name, "photo_bytes": as_bytes}


def _json_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a rating, or of what holds one, under the names that they have in JSON."""
    return {"rating" if name == "probabilities" else name: value for name, value in values.items()}


def _rounded(value: Any) -> Any:
    """Round every float to six decimals: a microsecond, a millionth of a probability."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value
