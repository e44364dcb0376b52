"""How an answer is generated: one set of options for photos, conversations and the command line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from aesedge.errors import UsageError
from aesedge.llm.grammar import Grammar
from aesedge.llm.sampler import Sampling
from aesedge.system.bounds import check_keywords, check_real, check_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_MAX_TOKENS = 512  # LLaVA's own limit
_MOST_TOKENS = 1 << 20
_MOST_SECONDS = 86_400  # a day
MOST_TOP_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Sampling):
    """How an answer is generated: when it ends, and how its tokens are chosen.

    Raises:
        UsageError: a value is out of its range.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    """Tokens of the answer at most."""
    stop: Sequence[str] = ()
    """Texts that end the answer and are not part of it; one text may stand alone."""
    sentences: int | None = None
    """Sentences after which the answer ends; None leaves that to the model."""
    grammar: Grammar | None = None
    """What the answer may look like. It can still be cut by ``max_tokens``, ``stop`` and ``deadline``."""
    deadline: float | None = None
    """Seconds until the answer must have ended, counted from :meth:`Model.look` for a photo and from the question in a
    conversation. The answer then comes sentence by sentence, and ends with the last whole one."""
    top_logprobs: int | None = None
    """Report the log-probability of each token, and of this number of the likeliest tokens; None reports none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("max-tokens", self.max_tokens, 1, _MOST_TOKENS)
        if self.sentences is not None:
            check_whole("sentences", self.sentences, 1, _MOST_TOKENS)
        if self.deadline is not None:
            check_real("deadline", self.deadline, 0, _MOST_SECONDS, open_below=True)
        if self.top_logprobs is not None:
            check_whole("top_logprobs", self.top_logprobs, 0, MOST_TOP_LOGPROBS)
        if self.grammar is not None and not isinstance(self.grammar, Grammar):
            raise UsageError(
                f"grammar is a {type(self.grammar).__name__}; it must be an aesedge.Grammar, "
                "made by Grammar.from_json_schema or Grammar.from_gbnf"
            )
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        try:
            stop = tuple(stop)
        except TypeError:
            raise UsageError(f"stop is {stop!r}; it must be a list of texts") from None
        if not all(isinstance(text, str) for text in stop):
            raise UsageError(f"stop is {stop!r}; it must be a list of texts")
        object.__setattr__(self, "stop", stop)


class GenerationKeywords(TypedDict, total=False):
    """The fields of :class:`GenerationOptions` as keywords."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    max_tokens: int
    stop: Sequence[str]
    sentences: int | None
    grammar: Grammar | None
    deadline: float | None
    top_logprobs: int | None


def with_keywords(options: GenerationOptions | None, keywords: GenerationKeywords) -> GenerationOptions:
    """Return options with some of them replaced by keywords.

    Raises:
        UsageError: a keyword is unknown, or a value out of its range.
    """
    if options is not None and not isinstance(options, GenerationOptions):
        raise UsageError(f"options is a {type(options).__name__}; it must be an aesedge.GenerationOptions")
    check_keywords(keywords, GenerationOptions)
    return dataclasses.replace(options or GenerationOptions(), **keywords)
