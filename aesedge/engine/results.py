"""What is known of one photo, in the form in which it is printed and stored as JSON; knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from aesedge.system.json_line import json_line, name_bytes

if TYPE_CHECKING:
    from aesedge.engine.rating import Rating


CacheState = Literal["cold", "embeddings", "kv"]


class Timings(msgspec.Struct, kw_only=True):
    """Where the time of one photo went."""

    decode_image_s: float = 0.0
    """Reading, decoding and preprocessing the file."""
    vision_s: float = 0.0
    prefill_s: float = 0.0
    """Image and questions, the critique's included."""
    ttft_s: float | None = None
    """From the call to the first token of text, everything before it included; null if no text was asked for."""
    generate_s: float = 0.0
    """From the first token of each text to its last."""
    total_s: float = 0.0
    n_prompt: int = 0
    """Prompt positions of all questions, the image counted for each."""
    n_reused: int = 0
    """Those of them that were taken from the KV cache instead of computed."""
    n_generated: int = 0


class RatingJson(msgspec.Struct):
    """A rating as printed for an attribute."""

    score: float
    rating: dict[str, float]
    entropy: float
    off_label: float


class Answer(msgspec.Struct):
    """A question of the user and its answer."""

    ask: str
    answer: str


class Report(msgspec.Struct):
    """A structured critique, in whole sentences."""

    attributes: dict[str, str]
    """Attribute of the bundle to what is said of it."""
    strengths: list[str]
    faults: list[str]
    advice: str


class PhotoResult(msgspec.Struct, kw_only=True, omit_defaults=False):
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
    cache: CacheState
    """What was known of the photo before: nothing (``cold``), its ``embeddings``, or its ``kv`` too."""
    remarks: list[str] = []
    """What is to be said of the file: damage that its decoder found, and what had to be guessed or left out."""
    score: float
    rating: dict[str, float]
    entropy: float
    off_label: float
    attributes: dict[str, RatingJson]
    critique: str | None = None
    report: Report | None = None
    answers: list[Answer] = []
    finish_reason: str | None = None
    """How the last text ended: ``stop`` by itself, ``length`` at ``--max-tokens``, ``deadline``; null without text."""
    timings: Timings

    def to_builtins(self) -> dict[str, Any]:
        """Return what its JSON holds, numbers rounded to what is meaningful."""
        values = _rounded(msgspec.to_builtins(self))
        return {**photo_fields(values.pop("photo")), **values}

    def to_json(self) -> str:
        """Return one line of JSON, in text that can be written as UTF-8."""
        return json_line(self.to_builtins())


def photo_fields(name: str) -> dict[str, str]:
    """Return the fields by which every line of JSON calls a photo."""
    as_bytes = name_bytes(name)
    return {"photo": name} if as_bytes is None else {"photo": name, "photo_bytes": as_bytes}


def rating_json(rating: Rating) -> RatingJson:
    """Return a rating in its printed form."""
    return RatingJson(rating.score, rating.rating, rating.entropy, rating.off_label)


def _rounded(value: Any) -> Any:
    """Round every float to six decimals: a microsecond, a millionth of a probability."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return value
