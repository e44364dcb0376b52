"""Server-sent events, as text on the wire."""

from __future__ import annotations

import msgspec

DONE = b"data: [DONE]\n\n"
"""The last event of OpenAI's streams."""
PING = b": ping\n\n"
"""A comment, which clients pass over."""


def sse(data: object, name: str | None = None) -> bytes:
    """Return one event; JSON holds no line breaks."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"
