"""Format a library's error for people: on one line, without Python's own notation."""

from __future__ import annotations

import ast
import re

from aesedge.system.sanitize import sanitize

_MOST_CHARACTERS = 200
_BYTES = re.compile(r"""\bb('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_BYTEARRAY = re.compile(r"\bbytearray\(([^()]*)\)")
_OBJECT = re.compile(r"<(?:[\w.]+ )?(?:object|[\w.]+) (?:[^<>]* )?at 0x[0-9a-fA-F]+>")


def error_text(error: BaseException) -> str:
    """Return why something failed; never an empty text.

    The system's errors are called by their names alone. Bytes are shown as the text that they are, else in
    hexadecimal; objects of Python, which mean nothing to a reader, are left out.
    """
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    plain = _OBJECT.sub("", _BYTES.sub(_bytes_text, _BYTEARRAY.sub(r"\1", said)))
    return sanitize(" ".join(plain.split()))[:_MOST_CHARACTERS] or type(error).__name__


def shortened(value: object, most: int = _MOST_CHARACTERS) -> str:
    """Return text from somewhere that is not trusted, cut to fit a message."""
    try:
        text = str(value)
    except ValueError:  # more digits than Python writes
        return "too large a number"
    return text if len(text) <= most else f"{text[:most]}…"


def _bytes_text(match: re.Match[str]) -> str:
    try:
        data: bytes = ast.literal_eval(match[0])
    except (SyntaxError, ValueError):  # no notation of bytes after all
        return match[0]
    text = data.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else f"0x{data.hex()}"
