"""List what may disturb measurements on this machine now: other programs, power saving, heat."""

from __future__ import annotations

import platform
import time
from pathlib import Path

from aesedge.system import load, power_saving, thermal
from aesedge.system.noise_source import NoiseSource, unknown

__all__ = ["NoiseSource", "disturbances"]

_LOOK_S = 0.3
"""Between two looks at counters."""


def disturbances(root: Path = Path("/"), system: str = "") -> list[NoiseSource]:
    """Return every source of noise, in an order that stays, in less than a second; raise nothing.

    Args:
        root: where ``proc`` and ``sys`` lie.
        system: as :func:`platform.system` names it; empty is this one.
    """
    system = system or platform.system()
    settings = {
        "Linux": lambda: power_saving.linux(root),
        "Darwin": power_saving.macos,
        "Windows": power_saving.windows,
    }
    found = settings.get(system, list)()
    heat = thermal.nvidia_state()  # before the looks, in which a command would count as load
    slowed, first = thermal.throttle_events(root), load.look(root)
    time.sleep(_LOOK_S)
    second, slowed_more = load.look(root), thermal.throttle_events(root)
    if system == "Linux":
        known = thermal.temperature() if root == Path("/") else unknown("temperature", "this is another machine's root")
        heat = [known, thermal.throttling(root, slowed, slowed_more), *heat]
    elif system == "Darwin":
        heat = [thermal.macos_throttling(), *heat]
    return [*load.between(first, second, root), *found, *heat]
