"""A JSON schema made into GBNF: what cannot be kept to is refused, not passed over; knows no model and no tokens."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError
from aesedge.llm import binding
from aesedge.llm.gbnf import MAX_DEPTH, MAX_REPETITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def gbnf_of(schema: Mapping[str, Any] | str) -> str:
    """Return the grammar of the JSON texts that fit a schema, without white space between their parts.

    Raises:
        UsageError: the schema is broken, or asks for something that cannot be kept to.
    """
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
        tree = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the JSON schema is no JSON: {error}") from None
    try:
        return _converted(_normal(tree, "#"))
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, RecursionError) as error:
        # llama-cpp-python's converter has no errors of its own.
        raise UsageError(f"the JSON schema cannot be made into a grammar: {type(error).__name__} {error}") from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the JSON schema cannot be made into a grammar: {error}") from None


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
    for key, limit in (("Length", MAX_REPETITIONS), ("Items", MAX_DEPTH)):
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
    if any(int(n or 0) > MAX_DEPTH for found in _QUANTIFIER.findall(text) for n in found):
        raise UsageError(f"JSON schema, {where}: pattern {pattern!r} repeats more than {MAX_DEPTH} times")


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
