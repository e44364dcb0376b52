"""Check that this process is silent: no network socket is open, and ONNX Runtime reports no usage."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import PurePath

import psutil

from aesedge.errors import AesedgeError
from aesedge.system.environment import NO_TELEMETRY
from aesedge.vision.providers import runtime_build

_ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
_ORT_STORE = "onnxruntime.db"
"""Where ONNX Runtime collects reports before it sends them; open for as long as it does so."""


def check_network() -> str:
    """Return in a line what was found, after ONNX Runtime was loaded, which reports from then on unless told not to.

    Raises:
        AesedgeError: something talks to the network, or is about to.
    """
    runtime = f"ONNX Runtime {runtime_build().version}"
    sockets = _network_sockets()
    if sockets:
        raise AesedgeError(f"a network socket is open ({sockets[0]}): something in this process talks to the network")
    store = next((path for path in _open_files() if PurePath(path).name == _ORT_STORE), None)
    if store is not None:
        raise AesedgeError(
            f"{runtime} collects reports of usage for its maker in {store}: it was loaded before aesedge"
        )
    if _native_variable(_ORT_SWITCH) != NO_TELEMETRY[_ORT_SWITCH]:
        raise AesedgeError(f"{_ORT_SWITCH} is not set as {runtime} reads it: something in this process took it back")
    return f"no socket is open, {runtime} reports no usage to its maker"


def _network_sockets() -> list[str]:
    """Return the IP sockets of this process and its children."""
    this = psutil.Process()
    found = []
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # a child has ended, or is another user's
            for connection in process.net_connections("inet"):
                address = ":".join(map(str, connection.raddr)) or "not connected"
                found.append(f"process {process.pid}: {address}")
    return found


def _open_files() -> list[str]:
    try:
        return [file.path for file in psutil.Process().open_files()]
    except (psutil.Error, OSError):  # the system does not tell
        return []


def _native_variable(name: str) -> str:
    """Return an environment variable as C code in this process sees it."""
    if os.name != "posix":
        return os.environ.get(name, "")
    getenv = ctypes.CDLL(None).getenv
    getenv.argtypes, getenv.restype = [ctypes.c_char_p], ctypes.c_char_p
    value = getenv(name.encode())
    return "" if value is None else str(value.decode("utf-8", "replace"))
