"""What a server may be told, and the limits that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PIXELS = 64_000_000
"""Of a photo: those of most cameras fit, and decoding one takes at most 256 MB."""
MOST_BODY = 32 * 2**20
"""Bytes of a request: a JPEG of 24 megapixels in base64 fits."""
MOST_BODIES = 8 * MOST_BODY
"""Bytes of all requests that are being received or wait."""
HEAD_S = 5.0
"""How long a connection may take for a request's line and headers."""
BODY_S = 30.0
"""How long a request's body may take."""
SEND_S = 30.0
"""How long a client may leave what it is sent unread."""
PING_S = 10.0
"""After how much silence a stream says that it lives."""
CONNECTIONS = 256


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a server is run."""

    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[bytes, ...] = ()
    """Of those who may ask; none asks for none."""
    origins: tuple[str, ...] = ()
    """Pages from elsewhere that may ask, such as ``https://photos.example``."""
    queue: int = 16
    """How many requests wait behind those that are worked on."""
    idle_s: float | None = None
    """After how long without requests the model is unloaded; None keeps it."""
    drain_s: float = 30.0
    """How long running answers may go on after SIGTERM before they end at a sentence."""
    deadline_s: float | None = None
    """Seconds after which an answer ends at a sentence; None lets it go on."""
    private: bool = False
    """Whether nothing is reused between keys, and nothing kept on disk."""
