"""Check a grammar (GBNF or JSON schema) and translate it for llguidance, which constrains sampling with it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.llm.gbnf import MAX_FORCED, GbnfReader
from aesedge.llm.json_schema import normal_schema
from aesedge.llm.lark import write_lark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LEXER_FUEL, _MAX_ITEMS = 1_000_000, 100_000  # for one token: some ten milliseconds


class _RefusedError(UsageError):
    """llguidance refuses a grammar."""


class Grammar:
    """A checked grammar, for any model and any number of answers."""

    def __init__(self, source: str) -> None:
        self.source = source
        """One space, as after a colon, and then the answer; in llguidance's notation."""
        import llguidance

        with panics_as_errors():
            matcher = llguidance.LLMatcher(_bytes(), source, log_level=0, limits=limits())
            matcher.consume_token(ord(" "))
            n_forced = len(matcher.compute_ff_tokens())
            matcher.compute_bitmask()
            if n_forced > MAX_FORCED:
                raise UsageError(f"the grammar leaves no choice for more than {MAX_FORCED} characters")
            if matcher.is_error():
                raise _RefusedError(f"the grammar cannot be followed: {in_short(matcher.get_error())}")

    @classmethod
    def from_gbnf(cls, text: str) -> Grammar:
        """Read GBNF, llama.cpp's notation; the rule ``root`` is the answer.

        Raises:
            UsageError: it cannot be read, or nothing can be generated from it. The message says where and why.
        """
        rules = GbnfReader(text).rules
        try:
            return cls(write_lark(rules))
        except _RefusedError:  # as a regular expression it is too large
            return cls(write_lark(rules, by_character=True))

    @classmethod
    def from_json_schema(cls, schema: Mapping[str, Any] | str) -> Grammar:
        """Make the grammar of the JSON texts that fit a schema, without white space between their parts.

        Args:
            schema: a JSON schema, as a mapping or as JSON text. A keyword that cannot be kept to is refused, not
                passed over. Objects have no other properties than those that are named, unless the schema says
                which (``additionalProperties``).

        Raises:
            UsageError: the schema is broken, or asks for something that cannot be kept to.
        """
        spaced = {"lark_grammar": 'start: " " @answer'}
        return cls(json.dumps({"grammars": [spaced, {"name": "answer", "json_schema": normal_schema(schema)}]}))


class _Bytes:
    """A vocabulary of single bytes, to try grammars with, as llguidance asks for it."""

    is_tokenizer_wrapper = True
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    eos_token_id, bos_token_id = 256, None
    special_token_ids = (256,)

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


@cache
def _bytes() -> Any:
    import llguidance

    return llguidance.LLTokenizer(_Bytes())  # type: ignore[arg-type]


@cache
def limits() -> Any:
    """Return what llguidance may spend on one token."""
    import llguidance

    return llguidance.LLParserLimits(
        step_lexer_fuel=_LEXER_FUEL, step_max_items=_MAX_ITEMS, precompute_large_lexemes=False, verbose_errors=False
    )


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a panic of llguidance, which is no ordinary exception, into a UsageError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise UsageError(f"llguidance cannot follow the grammar: {in_short(str(error))}") from None


def in_short(message: str) -> str:
    """Return llguidance's reason in one line."""
    reasons = {
        "NoExtensionBias": "it allows no text",
        "Unimplemented keys": "keywords that cannot be kept to",
        "Too many items": "it is too ambiguous, or leaves no choice for too long",
    }
    told = next((f"{reason}; {message}" for sign, reason in reasons.items() if sign in message), message)
    return " ".join(word for word in told.split() if word.strip("^"))[:300]
