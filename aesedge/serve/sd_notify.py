"""What systemd is told (READY, WATCHDOG, STOPPING), and the unit file that asks it to listen.

Source: sd_notify(3): a datagram to the address in ``$NOTIFY_SOCKET``.
"""

from __future__ import annotations

import os
import shlex
import socket
from contextlib import suppress

_VARIABLES = frozenset(("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
UNIT = """\
[Unit]
Description=aesedge: scores and critiques of photographs over HTTP

[Service]
Type=notify
ExecStart={command}
Restart=on-failure
WatchdogSec=60
TimeoutStopSec={stop_s}
DynamicUser=yes
CacheDirectory=aesedge
StateDirectory=aesedge
Environment=AESEDGE_CACHE=%C/aesedge AESEDGE_HOME=%S/aesedge
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressDeny={deny}
{allow}
[Install]
WantedBy=multi-user.target
"""


def without_systemd() -> dict[str, str]:
    """Return the environment for a child that is not to speak to systemd in this process's place."""
    return {name: value for name, value in os.environ.items() if name not in _VARIABLES}


def notify(state: str) -> None:
    """Tell systemd a state, such as ``READY=1``; does nothing where it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_s() -> float | None:
    """Return how often systemd wants to hear that the process works: half of its limit; None if never."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 2e6 if microseconds.isdigit() and mine else None


def unit_file(command: list[str], *, stop_s: float, is_local: bool) -> str:
    """Return a unit file.

    Args:
        command: what to start.
        stop_s: how long it may take to stop.
        is_local: whether only this machine asks; then systemd lets nothing else through.
    """
    quoted = " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in command)
    deny, allow = ("any", "IPAddressAllow=localhost\n") if is_local else ("", "")
    return UNIT.format(command=quoted, stop_s=int(stop_s + 15), deny=deny, allow=allow)
