"""Parse GBNF, llama.cpp's grammar notation, into rules; errors name the line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "root"
MAX_CHARACTERS = 1_000_000  # of a grammar or a JSON schema
MAX_FORCED = 50_000  # characters; llguidance spells out at once whatever leaves no choice
_MAX_REPETITIONS = 2000  # llama.cpp's own
_MAX_DEPTH = 400  # of groups inside each other: llguidance's parser recurses
_SURROGATES = (0xD800, 0xDFFF)
_LAST_CHARACTER = 0x10FFFF

_CODE = r"x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"
_CHARACTER = re.compile(rf'\\(?:{_CODE}|[trn\\"\[\]-])|[^\\]', re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|\#[^\r\n]*)|(?P<newline>[\r\n]+)|(?P<header>[a-zA-Z0-9-]+[ \t]*::=)|(?P<name>[a-zA-Z0-9-]+)
    |(?P<literal>"(?:[^"\\]|\\.)*")|(?P<choice>\[(?:[^\]\\]|\\.)*\])|(?P<any>\.)|(?P<open>\()|(?P<close>\))|(?P<bar>\|)
    |(?P<repeat>[*+?]|\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9})?\s*)?\})""",
    re.VERBOSE | re.DOTALL,
)


class Characters(NamedTuple):
    """One character out of these."""

    ranges: tuple[tuple[int, int], ...]
    """First and last code point of each range."""


class Repeat(NamedTuple):
    """Items that come several times."""

    symbol: tuple[Any, ...]
    """Each an :data:`Item`."""
    least: int
    most: int | None
    """None is without end."""


Item = str | Characters | Repeat  # a string is the name of a rule
Alternative = list[Item]
Rules = dict[str, list[Alternative]]
_ANY = Characters(((0, _LAST_CHARACTER),))


class GbnfReader:
    """Parse GBNF into rules; each group becomes a rule, as in llama.cpp."""

    def __init__(self, text: str) -> None:
        self.rules: Rules = {}
        self._text = text
        self._at = 0
        self._open: list[tuple[str, list[Alternative], int | None]] = []
        """The rule that is being read and the groups inside it: name, alternatives, where the last symbol begins."""
        self._check_text()
        wants_more = False
        while self._at < len(text):
            match = _TOKEN.match(text, self._at)
            if match is None:
                raise self._wrong(self._hint())
            kind = str(match.lastgroup)
            if kind == "newline" and len(self._open) == 1 and not wants_more:
                self._end_rule()
            elif kind == "header":
                self._begin_rule(match[0].removesuffix("::=").rstrip())
            elif kind not in {"newline", "blank"}:
                self._symbol(kind, match[0])
            if kind not in {"newline", "blank"}:
                wants_more = kind in {"header", "bar"}
            self._at = match.end()
        if len(self._open) > 1:
            raise self._wrong("a '(' was not closed")
        if self._open:
            self._end_rule()

    def _check_text(self) -> None:
        text = self._text
        if "\0" in text:
            raise UsageError("the grammar holds a NUL character; take it out")
        if len(text) > MAX_CHARACTERS:
            raise UsageError(f"the grammar has {len(text)} characters; {MAX_CHARACTERS} are the most")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise UsageError("the grammar holds half a character (a surrogate); take it out")

    def _wrong(self, what: str) -> UsageError:
        line = self._text.count("\n", 0, self._at) + 1
        return UsageError(f"grammar, line {line}: {what}: {self._text[self._at : self._at + 30]!r}")

    def _hint(self) -> str:
        hints = {
            '"': "a literal without its closing quote",
            "[": "a choice of characters without its ']'",
            "<": "tokens are not supported, only text: write the literal",
            "!": "tokens are not supported, only text: write the literal",
            "_": "names have letters, digits and '-', no '_'",
            "{": "a repetition is {n}, {n,} or {n,m}",
        }
        return hints.get(self._text[self._at], "this is no GBNF")

    def _begin_rule(self, name: str) -> None:
        if self._open:
            raise self._wrong("a rule begins inside another one; begin it on a line of its own")
        if name in self.rules:
            raise self._wrong("a rule with this name is there already")
        self._open = [(name, [[]], None)]

    def _end_rule(self) -> None:
        name, alternatives, _ = self._open.pop()
        self.rules[name] = alternatives

    def _symbol(self, kind: str, token: str) -> None:
        if not self._open:
            raise self._wrong("a rule begins with its name and '::='")
        if kind == "open":
            self._open.append((self._new_name(), [[]], None))
            if len(self._open) > _MAX_DEPTH:
                raise self._wrong(f"more than {_MAX_DEPTH} groups inside each other")
        elif kind == "close":
            if len(self._open) == 1:
                raise self._wrong("a ')' without its '('")
            name = self._open[-1][0]
            self._end_rule()
            self._append([name])
        elif kind == "bar":
            name, alternatives, _ = self._open[-1]
            alternatives.append([])
            self._open[-1] = (name, alternatives, 0)
        elif kind == "repeat":
            self._repeat(token)
        else:
            self._append(self._items(kind, token))

    def _items(self, kind: str, token: str) -> list[Item]:
        if kind == "literal":
            return [Characters(((code, code),)) for code in self._characters(token[1:-1], literal=True)]
        return [token if kind == "name" else _ANY if kind == "any" else self._choice(token[1:-1])]

    def _new_name(self) -> str:
        return f"{self._open[0][0]}_{len(self.rules)}_{self._at}_{len(self._open)}"

    def _append(self, items: Alternative) -> None:
        name, alternatives, _ = self._open[-1]
        self._open[-1] = (name, alternatives, len(alternatives[-1]))
        alternatives[-1] += items

    def _repeat(self, token: str) -> None:
        _, alternatives, start = self._open[-1]
        alternative = alternatives[-1]
        if start is None or start == len(alternative):
            raise self._wrong("there is nothing to repeat")
        bounds = {"*": "0,", "+": "1,", "?": "0,1"}.get(token, token.strip("{}"))
        low, comma, high = (part.strip() for part in bounds.partition(","))
        least, most = int(low), int(high or 0) if high or not comma else None
        most = least if not comma else most
        if max(least, most or 0) > _MAX_REPETITIONS:
            raise self._wrong(f"more than {_MAX_REPETITIONS} repetitions")
        if most is not None and most < least:
            raise self._wrong("the most repetitions are fewer than the least")
        alternative[start:] = [Repeat(tuple(alternative[start:]), least, most)]

    def _characters(self, text: str, *, literal: bool) -> Iterator[int]:
        at = 0
        while at < len(text):
            match = _CHARACTER.match(text, at)
            if match is None:
                raise self._wrong(f"unknown escape {text[at : at + 2]!r}")
            unit = match[0]
            digits = unit[2:]
            code = int(digits, 16) if digits else {"\\n": 10, "\\t": 9, "\\r": 13}.get(unit, ord(unit[-1]))
            if code > 0x10FFFF or (literal and (code == 0 or 0xD800 <= code <= 0xDFFF)):
                raise self._wrong(f"no text can hold the character {code:#x}")
            yield code
            at = match.end()

    def _choice(self, text: str) -> Characters:
        inverse = text.startswith("^")
        text = text.removeprefix("^")
        if not text:
            raise self._wrong("a choice of no characters")
        units = [m[0] for m in _CHARACTER.finditer(text)]
        codes = list(self._characters(text, literal=False))
        ranges: list[tuple[int, int]] = []
        i = 0
        while i < len(units):
            is_range = i + 2 < len(units) and units[i + 1] == "-"
            low, high = codes[i], codes[i + 2 if is_range else i]
            if low > high:
                raise self._wrong("a range of characters runs backwards")
            ranges.append((low, high))
            i += 3 if is_range else 1
        return Characters(tuple(_outside(ranges)) if inverse else tuple(sorted(ranges)))


def _outside(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for low, high in sorted(ranges):
        if at < low:
            yield at, low - 1
        at = max(at, high + 1)
    if at <= _LAST_CHARACTER:
        yield at, _LAST_CHARACTER
