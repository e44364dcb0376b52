"""Set the environment variables that native libraries read when they are loaded: no telemetry, short spinning.

``import aesedge`` and ``import aesedge_export`` do it before any of these libraries can be imported by them. Setting
``os.environ`` is enough for C code because CPython hands it on to ``setenv``. Children inherit the variables.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NO_TELEMETRY = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's wheels report usage from 1.29 on; read when it is imported
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and with it transformers
    "DO_NOT_TRACK": "1",  # what others of the kind respect
}
"""Set in any case: no process of ours sends telemetry."""
OPENMP_WAITING = {"GOMP_SPINCOUNT": "1000"}
"""How long OpenMP's threads spin before they sleep, unless the user has set it: GNU's OpenMP, with which llama.cpp is
built on Linux, spins 300,000 rounds by default, on a core that another thread may need (docs/speed.md)."""
_USERS_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_RUNTIMES = ("libgomp.so.1", "libgomp.so.1.0.0")  # a copy with another name in a wheel is that package's own
_ours: dict[str, bool] = {}
"""Variables of OpenMP that the user did not set, and whether they came too late."""


def prepare() -> None:
    """Set the variables."""
    os.environ.update(NO_TELEMETRY)
    if not any(name in os.environ for name in _USERS_CHOICE):
        os.environ.update(OPENMP_WAITING)
        _ours.update(dict.fromkeys(OPENMP_WAITING, _openmp_is_loaded()))


def use_openmp_defaults() -> None:
    """Remove our OpenMP settings, so that llama.cpp runs at its own defaults. Call it before llama.cpp is loaded."""
    for name in _ours:
        os.environ.pop(name, None)
    _ours.clear()


def without_openmp_setting() -> dict[str, str]:
    """Return the environment without our OpenMP settings, for a child that calls :func:`use_openmp_defaults`."""
    return {name: value for name, value in os.environ.items() if name not in _ours}


def openmp_waiting() -> str:
    """Describe how llama.cpp's threads wait for one another, as far as the environment tells."""
    found = [f"{name}={os.environ[name]}" for name in _USERS_CHOICE if name in os.environ]
    if not found:
        return "OpenMP's own default"
    if any(_ours.values()):
        return f"OpenMP's own default: it was loaded before aesedge could set {', '.join(found)}"
    return ", ".join(found)


def _openmp_is_loaded() -> bool:
    """Return whether the OpenMP runtime is loaded already, so that it ignores new settings."""
    if sys.platform != "linux":
        return False
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(line.endswith(_RUNTIMES) for line in maps.splitlines())
