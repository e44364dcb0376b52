"""Prepare a JSON schema for llguidance: check its keywords, and close objects that name their properties."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aesedge.errors import UsageError
from aesedge.llm.gbnf import MAX_CHARACTERS, MAX_FORCED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OPTIONS = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
_MOST = 2000  # of minItems and its like: what is demanded is written out
_MAX_DEPTH = 100  # of schemas inside each other, also by $ref: llguidance recurses
_DRAFTS = ("https://json-schema.org/draft", "http://json-schema.org/draft")
_LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_MAPS = {"properties", "patternProperties", "$defs", "definitions"}
_SINGLE = {"items", "additionalProperties", "additionalItems"}
_MERGED = {"allOf", "anyOf", "oneOf", "$ref"}
"""What these say is about the same value."""
_OTHERS = {"additionalProperties", "patternProperties"}
_KNOWN = {
    *_LISTS, *_MAPS, *_SINGLE, "$ref", "const", "enum", "type", "minItems", "maxItems", "required", "minProperties",
    "maxProperties", "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf",
    "$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
}  # fmt: skip
"""What llguidance keeps to, and notes; it would pass over any other word."""


def normal_schema(schema: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return a schema with llguidance's options, its objects closed unless it says ``additionalProperties``.

    Raises:
        UsageError: it is no JSON, no object, has a keyword that cannot be kept to, or demands too much.
    """
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
        tree: Any = json.loads(text) if len(text) <= MAX_CHARACTERS else None
        characters = json.dumps(tree, ensure_ascii=False)
    except RecursionError:
        raise UsageError("the JSON schema is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"the JSON schema is no JSON: {error}") from None
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the JSON schema has {len(text)} characters; {MAX_CHARACTERS} are the most")
    if any("\ud800" <= c <= "\udfff" for c in characters):
        raise UsageError("the JSON schema holds half a character (a surrogate); take it out")
    preparation = _Preparation(tree)
    preparation.prepare(tree, "#", 0, merged=False)
    preparation.close()
    return {**tree, "x-guidance": _OPTIONS}


class _Preparation:
    """Goes through a schema, and what it refers to, in the order in which llguidance does.

    Args:
        whole: the schema in which a ``$ref`` is looked up.
    """

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self._seen: dict[int, dict[str, Any]] = {}
        self._merged: set[int] = set()
        """Schemas beside others about the same value, whose properties are not all that it may have."""

    def prepare(self, tree: Any, where: str, depth: int, *, merged: bool) -> None:
        """Check a schema and all that it leads to, and close its objects."""
        if isinstance(tree, bool) and depth:
            return
        if not isinstance(tree, dict):
            raise UsageError(f"JSON schema, {where}: a schema is an object, not {json.dumps(tree)[:40]}")
        if depth > _MAX_DEPTH:
            raise UsageError(f"JSON schema, {where}: more than {_MAX_DEPTH} schemas inside each other")
        n_beside = len(_MERGED & tree.keys()) + ("properties" in tree) + max(0, _length(tree.get("allOf")) - 1)
        merged = merged or n_beside > 1
        if merged:
            self._merged.add(id(tree))
        if id(tree) in self._seen:
            return
        self._seen[id(tree)] = tree
        _check(tree, where, is_root=not depth)
        if isinstance(tree.get("items"), list) and "$schema" not in self._whole:
            raise UsageError(f"JSON schema, {where}/items: a schema is an object; for a list there is prefixItems")
        if "$ref" in tree:
            self.prepare(self._target(tree["$ref"], where), str(tree["$ref"]), depth + 1, merged=merged)
        for inner, key, same in _inner(tree):
            self.prepare(inner, f"{where}/{key}", depth + 1, merged=merged and same)

    def close(self) -> None:
        """Close objects that name their properties, unless the schema states which others they may have."""
        for tree in self._seen.values():
            named, required = tree.get("properties"), tree.get("required", [])
            if id(tree) in self._merged or not isinstance(named, dict) or not _OTHERS.isdisjoint(tree):
                continue
            if isinstance(required, list) and all(isinstance(name, str) and name in named for name in required):
                tree["additionalProperties"] = False
            if tree.keys().isdisjoint({"type", "enum", "const"}):
                tree["type"] = "object"

    def _target(self, ref: object, where: str) -> Any:
        if not isinstance(ref, str) or (ref != "#" and not ref.startswith("#/")):
            raise UsageError(f"JSON schema, {where}: $ref {ref!r} is not inside the schema (#/...)")
        found = self._whole
        for part in ref[2:].split("/") if ref != "#" else []:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (LookupError, TypeError, ValueError):
                raise UsageError(f"JSON schema, {where}: $ref {ref!r} leads nowhere") from None
        return found


def _check(tree: dict[str, Any], where: str, *, is_root: bool) -> None:
    unknown = sorted(tree.keys() - _KNOWN)
    if unknown:
        raise UsageError(f"JSON schema, {where}: {', '.join(unknown)} cannot be kept to")
    if not str(tree.get("$schema", _DRAFTS[0])).startswith(_DRAFTS):
        raise UsageError(f"JSON schema, {where}: $schema {str(tree['$schema'])[:60]!r} is not known ({_DRAFTS[0]}...)")
    if "$id" in tree and not is_root:
        raise UsageError(f"JSON schema, {where}: $id inside a schema is not supported")
    values = [tree[key] for key in ("const",) if key in tree]
    values += tree["enum"] if isinstance(tree.get("enum"), list) else []
    if any(len(json.dumps(value)) > MAX_FORCED for value in values):
        raise UsageError(f"JSON schema, {where}: a value of more than {MAX_FORCED} characters")
    for key in ("minItems", "minLength", "minProperties"):
        if isinstance(tree.get(key), (int, float)) and tree[key] > _MOST:
            raise UsageError(f"JSON schema, {where}: {key} {tree[key]} is more than {_MOST}")


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def _inner(tree: dict[str, Any]) -> Iterator[tuple[Any, str, bool]]:
    """Yield the schemas inside one, where they are, and whether what they say is about the same value."""
    for key, value in list(tree.items()):
        if key in _LISTS or (key == "items" and isinstance(value, list)):
            if not (isinstance(value, list) and value):
                raise UsageError(f"JSON schema: {key} is a list with something in it")
            yield from ((inner, f"{key}/{i}", key in _MERGED) for i, inner in enumerate(value))
        elif key in _MAPS:
            if not isinstance(value, dict):
                raise UsageError(f"JSON schema: {key} is an object")
            yield from ((inner, f"{key}/{name}", False) for name, inner in value.items())
        elif key in _SINGLE:
            yield value, key, False
