"""A source of measurement noise.

*Disturbs* means that figures measured now vary more, or come out slower, than this machine can do.
"""

from __future__ import annotations

import msgspec


class NoiseSource(msgspec.Struct, frozen=True):
    """What was looked for, and what was found."""

    what: str
    """A short name that stays: ``governor``, ``load``."""
    found: str
    """In one line."""
    disturbs: bool
    known: bool = True
    """Whether this machine tells; what is unknown disturbs nothing."""


def unknown(what: str, why: str) -> NoiseSource:
    """Return that a machine does not tell."""
    return NoiseSource(what, f"unknown: {why}", disturbs=False, known=False)
