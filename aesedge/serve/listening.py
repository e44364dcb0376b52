"""Listen at an address; other machines are let in only with a key."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.serve.settings import CONNECTIONS
from aesedge.system.error_text import error_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.serve.settings import ServeSettings


def check_address(settings: ServeSettings) -> bool:
    """See that others can reach the server only with a key; returns whether none can at all.

    Raises:
        UsageError: the host is no address, or one that others reach and there is no key.
    """
    address = _address(settings.host)
    if not address.is_loopback and not settings.keys:
        raise UsageError(
            f"--host {settings.host} can be reached from other machines; write a key into a file (openssl rand -hex 24 "
            "> key) and add --key-file key, or leave --host out"
        )
    return address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host.lower() == "localhost" else host.strip("[]"))
    except ValueError:
        raise UsageError(f"--host {host!r} is no address; write 127.0.0.1, or 0.0.0.0 for all networks") from None


@contextmanager
def listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """Listen for the block.

    Raises:
        UsageError: the address cannot be listened at.
    """
    address = _address(settings.host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        line = socket.create_server((str(address), settings.port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen at {settings.host} port {settings.port}: {error_text(error)}; choose another --port"
        ) from None
    with line:
        yield line
