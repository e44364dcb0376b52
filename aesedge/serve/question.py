"""One question as the engine is asked it, whichever wire format it came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aesedge.engine.logprobs import TokenLogprob
    from aesedge.llm import Grammar

MOST_CHOICES = 4
MOST_TOKENS = 1 << 20
MOST_SEED = 2**32 - 2


@dataclass(frozen=True, kw_only=True)
class Question:
    """A photo or none, what was said before, and what is asked."""

    photo: bytes | str | None = None
    """The bytes of an image file, or their base64; not decoded before the request is admitted."""
    turns: tuple[tuple[str, str], ...] = ()
    """Questions and answers before this one, the oldest first."""
    text: str = ""
    """What is asked; empty asks for the critique of a photo."""
    max_tokens: int | None = None
    """None takes the engine's default."""
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    n: int = 1
    """Answers to write."""
    top_logprobs: int | None = None
    """Alternatives to report for each token; 0 reports the chosen token alone, None nothing."""
    words: bool = True
    """Whether to write text at all; False scores only."""
    score_first: bool = False
    """Whether the score is to come before any text."""
    stream: bool = False
    progress: bool = False
    """Whether a stream is to say how much of the prefill is done."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What the wire format needs again for its answer."""


@dataclass(frozen=True)
class Progress:
    """Event: a part of the prefill is done."""

    done: float
    """Positions that are prefilled over all that the ratings need, 0 to 1."""


@dataclass(frozen=True)
class Scored:
    """Event: the ratings of the photo are there."""

    ratings: dict[str, Any]
    """``score``, ``rating``, ``entropy``, ``off_label`` and ``attributes`` as in the JSON of ``aesedge run``."""


@dataclass(frozen=True)
class Words:
    """Event: an answer grows."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Ended:
    """Event: an answer is complete."""

    index: int
    reason: str
    """``stop``, ``length``, or ``deadline``."""


Event = Progress | Scored | Words | Ended


@dataclass
class Outcome:
    """Everything about one answered question."""

    question: Question
    texts: list[str]
    reasons: list[str]
    logprobs: list[list[TokenLogprob]]
    n_prompt: int = 0
    """Positions of image and text before the answer."""
    n_cached: int = 0
    """Those of them that were taken from the KV cache."""
    n_image: int = 0
    n_generated: int = 0
    result: dict[str, Any] | None = None
    """What ``aesedge run --json`` would print, but for texts; None without a photo."""
    load_s: float = 0.0
    prefill_s: float = 0.0
    generate_s: float = 0.0
    total_s: float = 0.0

    def extra(self) -> dict[str, Any]:
        """Return the extra object of an answer about a photo: score, attributes, cache state, timings."""
        if self.result is None:
            return {}
        texts = {"photo", "critique", "report", "answers"}
        return {"aesedge": {name: value for name, value in self.result.items() if name not in texts}}


def openai_reason(reason: str) -> str:
    """Return how an answer ended in OpenAI's words, which know no deadline."""
    return "stop" if reason == "stop" else "length"
