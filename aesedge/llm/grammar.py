"""What an answer may look like: GBNF text, or a JSON schema made into it, checked; knows no model and no tokens.

llama.cpp trusts its grammars. Some make it recurse until the stack is gone, copy until memory is gone, or find
itself without a way on, and all of these end the process. So a grammar is read here first, by llama.cpp's own rules,
and refused where it could do that; what is wrong is said with its line, which llama.cpp writes only to stderr.
"""

from __future__ import annotations

import json
import re
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.llm import binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT, SPACED_ROOT = "root", "aesedge-spaced-root"
_MAX_CHARACTERS = 1_000_000
_MAX_ELEMENTS = 50_000  # of expanded rules; llama.cpp walks over all of them whenever it copies a state
_MAX_REPETITIONS = 2000  # llama.cpp's own; above, it silently takes "without end" for an upper bound
_MAX_DEPTH = 400  # llama.cpp's parser recurses; at 1200 a thread's stack of half a MiB is gone
_MAX_WAYS = 10_000  # in which one rule may begin; llama.cpp holds each as a stack, and compares all with all

_CODE = r"x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"
_CHARACTER = re.compile(rf'\\(?:{_CODE}|[trn\\"\[\]-])|[^\\]', re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|\#[^\r\n]*)|(?P<newline>[\r\n]+)|(?P<header>[a-zA-Z0-9-]+[ \t]*::=)|(?P<name>[a-zA-Z0-9-]+)
    |(?P<literal>"(?:[^"\\]|\\.)*")|(?P<choice>\[(?:[^\]\\]|\\.)*\])|(?P<any>\.)|(?P<open>\()|(?P<close>\))|(?P<bar>\|)
    |(?P<repeat>[*+?]|\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9})?\s*)?\})""",
    re.VERBOSE | re.DOTALL,
)
_Alternative = list["str | None"]  # rule names; None is a character


class Grammar:
    """A checked grammar, for any model and any number of answers."""

    def __init__(self, text: str) -> None:
        self.text = text
        """GBNF, with a rule ``root``, and beside it one that puts a space before it."""

    @classmethod
    def from_gbnf(cls, text: str) -> Grammar:
        """Read GBNF, llama.cpp's notation; the rule ``root`` is the answer.

        Raises:
            UsageError: it cannot be read, or nothing can be generated from it. The message says where and why.
        """
        _check(_Rules(text).rules)
        text = f'{text}\n{SPACED_ROOT} ::= " " {ROOT}\n'
        lib = binding.load()
        binding.clear_log()
        parsed = lib.llama_sampler_init_grammar(None, text.encode(), ROOT.encode())
        if not parsed:
            raise UsageError(f"llama.cpp refuses the grammar: {binding.last_complaint() or 'no reason given'}")
        lib.llama_sampler_free(parsed)
        return cls(text)

    @classmethod
    def from_json_schema(cls, schema: Mapping[str, Any] | str) -> Grammar:
        """Make the grammar of the JSON texts that fit a schema, without white space between their parts.

        Args:
            schema: a JSON schema, as a mapping or as JSON text. A keyword that cannot be kept to is refused, not
                passed over.

        Raises:
            UsageError: the schema is broken, or asks for something that cannot be kept to.
        """
        try:
            text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
            tree = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"the JSON schema is no JSON: {error}") from None
        try:
            return cls.from_gbnf(_converted(_normal(tree, "#")))
        except (AssertionError, AttributeError, IndexError, KeyError, TypeError, RecursionError) as error:
            # llama-cpp-python's converter has no errors of its own.
            raise UsageError(f"the JSON schema cannot be made into a grammar: {type(error).__name__} {error}") from None
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"the JSON schema cannot be made into a grammar: {error}") from None


class _Rules:
    """Reads GBNF into rules, with a rule of its own for each group and each repetition, as llama.cpp has it."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, list[_Alternative]] = {}
        self._text = text
        self._at = 0
        self._n_elements = 0
        self._open: list[tuple[str, list[_Alternative], int | None]] = []
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
            raise UsageError("the grammar holds a NUL character, where llama.cpp would stop reading; take it out")
        if len(text) > _MAX_CHARACTERS:
            raise UsageError(f"the grammar has {len(text)} characters; {_MAX_CHARACTERS} are the most")
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
        if name in self.rules or name == SPACED_ROOT:
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
            self._append([name], 1)
        elif kind == "bar":
            name, alternatives, _ = self._open[-1]
            alternatives.append([])
            self._open[-1] = (name, alternatives, 0)
        elif kind == "repeat":
            self._repeat(token)
        elif kind == "name":
            self._append([token], 1)
        elif kind == "literal":
            n = sum(1 for _ in self._characters(token[1:-1], literal=True))
            self._append([None] * n, n)
        else:
            self._append([None], 1 if kind == "any" else self._n_choices(token[1:-1]))

    def _new_name(self) -> str:
        return f"{self._open[0][0]}_{len(self.rules)}_{self._at}_{len(self._open)}"

    def _append(self, items: _Alternative, n_elements: int) -> None:
        name, alternatives, _ = self._open[-1]
        self._open[-1] = (name, alternatives, len(alternatives[-1]))
        alternatives[-1] += items
        self._count(n_elements)

    def _count(self, n_elements: int) -> None:
        self._n_elements += n_elements + 1
        if self._n_elements > _MAX_ELEMENTS:
            raise self._wrong(f"the grammar becomes too large here (more than {_MAX_ELEMENTS} elements); repeat less")

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
        symbol = alternative[start:]
        n_more = 1 if most is None else most - least
        self._count((least + n_more) * (len(symbol) + 3))
        # What follows is about how a rule begins, and two copies begin as two thousand do.
        alternative[start:] = symbol * min(least, 2)
        if n_more:
            again = self._new_name()
            # That it comes again after an empty symbol is left out: llama.cpp notices that it has been there.
            self.rules[again] = [symbol, []]
            alternative.append(again)

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

    def _n_choices(self, text: str) -> int:
        text = text.removeprefix("^")
        if not text:
            raise self._wrong("a choice of no characters")
        units = [m[0] for m in _CHARACTER.finditer(text)]
        codes = list(self._characters(text, literal=False))
        for i in range(1, len(units) - 1):
            if units[i] == "-" and codes[i - 1] > codes[i + 1] and (i < 2 or units[i - 2] != "-"):
                raise self._wrong("a range of characters runs backwards")
        return len(units)


def _check(rules: dict[str, list[_Alternative]]) -> None:
    """Refuse rules from which llama.cpp cannot generate, or not without end."""
    if ROOT not in rules:
        raise UsageError(f"the grammar has no rule {ROOT!r}; that is the one which describes the answer")
    missing = {item for alternatives in rules.values() for a in alternatives for item in a if item} - rules.keys()
    if missing:
        raise UsageError(f"the grammar uses rules that it does not have: {', '.join(sorted(missing))}")
    endless = rules.keys() - _fixpoint(rules, characters=True)
    if endless:
        raise UsageError(f"what the rule {_shown(min(endless))!r} describes never ends; give it a way out")
    empty = _fixpoint(rules, characters=False)
    left = {name: list(_beginnings(alternatives, empty)) for name, alternatives in rules.items()}
    try:
        order = list(TopologicalSorter({name: set(first) for name, first in left.items()}).static_order())
    except CycleError as error:
        circle = " -> ".join(dict.fromkeys(_shown(name) for name in error.args[1]))
        raise UsageError(
            f"left recursion: the rule {circle} can begin with itself; put what it repeats first, or use *"
        ) from None
    ways: dict[str, int] = {}
    depth: dict[str, int] = {}
    for name in order:
        ways[name] = len(rules[name]) + sum(ways[first] for first in left[name])
        depth[name] = 1 + max((depth[first] for first in left[name]), default=0)
        if ways[name] > _MAX_WAYS or depth[name] > 2 * _MAX_DEPTH:
            raise UsageError(
                f"the rule {_shown(name)!r} can begin in more than {_MAX_WAYS} ways, or through more than "
                f"{2 * _MAX_DEPTH} others; offer fewer choices at once"
            )


def _shown(name: str) -> str:
    return name.split("_", 1)[0]  # that of the rule which a group is in


def _beginnings(alternatives: list[_Alternative], empty: set[str]) -> Iterator[str]:
    """Yield every rule with which one of the alternatives can begin."""
    for alternative in alternatives:
        for item in alternative:
            if item is None:
                break
            yield item
            if item not in empty:
                break


def _fixpoint(rules: dict[str, list[_Alternative]], *, characters: bool) -> set[str]:
    """Return the rules that can come to an end: at all, or without a character."""
    users: dict[str, list[tuple[str, int]]] = {}
    open_items: dict[tuple[str, int], int] = {}
    ready: list[str] = []
    for name, alternatives in rules.items():
        for i, alternative in enumerate(alternatives):
            names = [item for item in alternative if item is not None]
            if not characters and len(names) < len(alternative):
                continue
            open_items[name, i] = len(names)
            for item in names:
                users.setdefault(item, []).append((name, i))
            if not names:
                ready.append(name)
    found: set[str] = set()
    while ready:
        name = ready.pop()
        if name not in found:
            found.add(name)
            for user in users.get(name, []):
                open_items[user] -= 1
                if not open_items[user]:
                    ready.append(user[0])
    return found


_DEFINITIONS = ("$defs", "definitions")
_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id"}
_NOTES |= {"$comment", *_DEFINITIONS}
# What the converter takes a schema to be, in its order, and the keywords that it keeps to together.
_SHAPES: tuple[tuple[Callable[[Mapping[str, Any]], bool], set[str]], ...] = (
    (lambda tree: "$ref" in tree, {"$ref"}),
    (lambda tree: "oneOf" in tree, {"oneOf"}),
    (lambda tree: "anyOf" in tree, {"anyOf"}),
    (lambda tree: "const" in tree, {"const", "type"}),
    (lambda tree: "enum" in tree, {"enum", "type"}),
    (lambda tree: isinstance(tree.get("type"), list), {"type"}),
    (
        lambda tree: tree.get("type") == "object" or "properties" in tree,
        {"type", "properties", "required", "additionalProperties"},
    ),
    (lambda tree: tree.get("type") == "array" and "prefixItems" in tree, {"type", "prefixItems"}),
    (lambda tree: tree.get("type") == "array" and "items" in tree, {"type", "items", "minItems", "maxItems"}),
    (lambda tree: tree.get("type") == "string" and "pattern" in tree, {"type", "pattern"}),
    (lambda tree: tree.get("type") == "string" and "format" in tree, {"type", "format"}),
    (lambda tree: tree.get("type") == "string", {"type", "minLength", "maxLength"}),
    (
        lambda tree: tree.get("type") == "integer" and {"minimum", "maximum"} <= tree.keys(),
        {"type", "minimum", "maximum"},
    ),
    (lambda _: True, {"type"}),
)
_FORMATS = {"date", "time", "date-time", "uuid"}
_MOST_INTEGERS = 1000  # a range of integers is written out
_QUANTIFIER = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")


def _normal(tree: Any, where: str) -> Any:
    """Return a schema that the converter keeps to, of the same meaning or stricter; refuse what it would pass over."""
    if not isinstance(tree, dict):
        raise UsageError(f"JSON schema, {where}: a schema is an object, not {json.dumps(tree)[:40]}")
    if not tree:
        return {"type": ["object", "array", "string", "number", "boolean", "null"]}
    _check_keywords(tree, where)
    _check_lengths(tree, where)
    if "minimum" in tree:
        return {"enum": _integers(tree["minimum"], tree["maximum"], where)}
    done = {key: value for key, value in tree.items() if key not in _NOTES or key in _DEFINITIONS}
    for key in ("properties", *_DEFINITIONS):
        if key in tree:
            done[key] = {name: _normal(value, f"{where}/{key}/{name}") for name, value in tree[key].items()}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if key in tree:
            done[key] = [_normal(value, f"{where}/{key}/{i}") for i, value in enumerate(tree[key])]
    for key in ("items", "additionalProperties"):
        if key in tree and not isinstance(tree[key], bool):
            done[key] = _normal(tree[key], f"{where}/{key}")
    return _adjusted(done)


def _adjusted(tree: dict[str, Any]) -> dict[str, Any]:
    """Write a schema so that the converter does not pass over a part of it."""
    if "properties" in tree:
        tree["additionalProperties"] = False
    if "enum" in tree or "const" in tree:
        tree.pop("type", None)  # where it is a list, the values would not be looked at
    if "$ref" in tree and len(tree) > 1:
        tree["anyOf"] = [{"$ref": tree.pop("$ref")}]  # beside it, the definitions would not be looked at
    return tree


def _check_keywords(tree: Mapping[str, Any], where: str) -> None:
    shape = next(keys for is_it, keys in _SHAPES if is_it(tree))
    unknown = sorted(tree.keys() - _NOTES - shape)
    if unknown:
        raise UsageError(
            f"JSON schema, {where}: {', '.join(unknown)} cannot be kept to here; what can is {', '.join(sorted(shape))}"
        )
    for key in ("enum", "anyOf", "oneOf"):
        if key in tree and not (isinstance(tree[key], list) and tree[key]):
            raise UsageError(f"JSON schema, {where}: {key} is a list with something in it")
    if "pattern" in tree:
        _check_pattern(tree["pattern"], where)
    if "format" in tree and tree["format"] not in _FORMATS:
        raise UsageError(f"JSON schema, {where}: format {tree['format']!r}; known are {', '.join(sorted(_FORMATS))}")
    if "$ref" in tree and not str(tree["$ref"]).startswith("#/"):
        raise UsageError(f"JSON schema, {where}: $ref {tree['$ref']!r} is not inside the schema")
    missing = set(tree.get("required", [])) - tree.get("properties", {}).keys()
    if missing:
        raise UsageError(f"JSON schema, {where}: required, and not in properties: {', '.join(map(str, missing))}")
    if "properties" in tree and isinstance(tree.get("additionalProperties"), dict):
        raise UsageError(f"JSON schema, {where}: additionalProperties cannot be kept apart from properties")


def _check_lengths(tree: Mapping[str, Any], where: str) -> None:
    for key, limit in (("Length", _MAX_REPETITIONS), ("Items", _MAX_DEPTH)):
        bounds = [tree.get("min" + key, 0), tree.get("max" + key, limit)]
        if not all(type(bound) is int and 0 <= bound <= limit for bound in bounds) or bounds[0] > bounds[1]:
            raise UsageError(
                f"JSON schema, {where}: min{key} and max{key} are integers from 0 to {limit}, the first not above "
                "the second"
            )


def _integers(least: object, most: object, where: str) -> list[int]:
    if type(least) is not int or type(most) is not int or not 0 <= most - least < _MOST_INTEGERS:
        raise UsageError(
            f"JSON schema, {where}: minimum and maximum are integers, with {_MOST_INTEGERS} of them at most between"
        )
    return list(range(least, most + 1))


def _check_pattern(pattern: object, where: str) -> None:
    text = pattern if isinstance(pattern, str) else ""
    ranges = re.findall(r"(?s)(?=(.)-(.))", text)
    if (
        not re.fullmatch(r"(?s)\^.*\$", text)
        or re.search(r'["\x00-\x1f]|\\\\|\[\^|\[[^\]]*\\', text)
        or any(low <= c <= high for low, high in ranges for c in '"\\')
    ):
        raise UsageError(
            f"JSON schema, {where}: pattern {pattern!r}: quotes, backslashes and [^...] cannot be kept out of JSON; "
            "list the characters that may be there, between ^ and $"
        )
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(f"JSON schema, {where}: pattern {text!r}: {error}") from None
    if any(int(n or 0) > _MAX_DEPTH for found in _QUANTIFIER.findall(text) for n in found):
        raise UsageError(f"JSON schema, {where}: pattern {pattern!r} repeats more than {_MAX_DEPTH} times")


def _converted(schema: Any) -> str:
    """Return a schema as GBNF, by llama-cpp-python's converter, put right where its texts would not be JSON."""
    converter = binding.schema_converter()
    rules: dict[str, str] = converter._rules  # noqa: SLF001 (there is no other way to its rules)
    # White space that may be there or not is a choice at every comma; without, what is between two values is forced.
    rules["space"] = '""'
    converter._format_literal = _literal  # noqa: SLF001 (its own leaves backslashes as they are)
    names: dict[str, str] = {}

    def resolved(ref: str) -> str:
        if ref not in names:
            names[ref] = name = f"aesedge-ref-{len(names)}"
            rules[name] = converter.visit(converter._refs[ref], f"{name}-is")  # noqa: SLF001
        return names[ref]

    converter._resolve_ref = resolved  # noqa: SLF001 (its own takes a property's rule for a definition of that name)
    schema = converter.resolve_refs(schema, "schema")
    converter.visit(schema, "")
    if "char" in rules:  # its own lets line breaks into strings, and escaped halves of characters
        code = "[0-9a-cefA-CEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}"
        rules["char"] = rf'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ({code}))'
    if "dot" in rules:
        rules["dot"] = r'[^"\\\x00-\x1F\x7F]'
    for name, rule in rules.items():
        # A string's length is written as (char (char (char)?)?)?, which nests as deep as the string is long.
        found = re.fullmatch(r'("\\"" )((?:char ?)*)((?:\(char ?)+)[)?]+( "\\"" space)', rule)
        if found:
            least, more = found[2].count("char"), found[3].count("char")
            rules[name] = f"{found[1]}char{{{least},{least + more}}}{found[4]}"
    text: str = converter.format_grammar()
    return text


def _literal(json_text: str) -> str:
    """Return a JSON text as a GBNF literal."""
    text = json.dumps(json.loads(json_text), ensure_ascii=False, separators=(",", ":"))
    escaped = re.sub(r'[\\"]', r"\\\g<0>", text).replace("\x7f", r"\x7F")
    return f'"{escaped}"'
