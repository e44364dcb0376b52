"""Write JSON on one line that is valid UTF-8 and safe to print on a terminal."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import quote_from_bytes

import msgspec

from aesedge.system.sanitize import UNSAFE, sanitize

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_PLAIN_ASCII = re.compile("[^\x20-\x7e]")


def json_line(value: object, *, ascii_only: bool = False) -> str:
    r"""Return a value as one line of JSON.

    Bytes of a file's name that are no UTF-8, which JSON cannot hold, stand in texts as ``\xe9`` (see also
    :func:`name_bytes`). Control characters and what reorders text are escaped as JSON does it, so nothing is lost.

    Args:
        value: what msgspec encodes.
        ascii_only: whether all that is not ASCII is escaped too.
    """
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = msgspec.json.encode(_encodable(msgspec.to_builtins(value))).decode()
    return safe_json(text, ascii_only=ascii_only)


def safe_json(text: str, *, ascii_only: bool = False) -> str:
    """Return JSON, of one line or indented, with all escaped that would steer a terminal or cannot be encoded.

    Args:
        text: the JSON; what is not ASCII stands within its strings.
        ascii_only: whether all that is not ASCII is escaped too.
    """
    unsafe = _NOT_PLAIN_ASCII if ascii_only else UNSAFE
    return "\n".join(unsafe.sub(_escaped, line) for line in text.split("\n"))


def name_bytes(name: str) -> str | None:
    """Return the bytes of a file's name, percent-encoded, where it is not UTF-8; None where the name says it all."""
    return quote_from_bytes(os.fsencode(name)) if _SURROGATE.search(name) else None


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(lambda match: sanitize(match[0]), value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(inner) for inner in value]
    return value


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
