"""Import urllib3 without its IPv6 probe, which opens a socket; run the probe when a download begins.

huggingface_hub and transformers import urllib3 whether they download or not. The packages here that use them import
this module first.
"""

from __future__ import annotations

import contextlib
import socket


def look_for_ipv6() -> None:
    """Run urllib3's IPv6 probe, so that downloads use IPv6 where this machine has it."""
    from urllib3.util import connection

    connection.HAS_IPV6 = connection._has_ipv6("::1")  # noqa: SLF001 (urllib3 has no other way)


_had_ipv6, socket.has_ipv6 = socket.has_ipv6, False
try:
    with contextlib.suppress(ImportError):  # not every extra brings it
        import urllib3.util.connection  # noqa: F401
finally:
    socket.has_ipv6 = _had_ipv6
