"""One thing about a machine that may disturb measurements, as data; knows neither where it is read nor what it means.

*Disturbs* means that figures measured now vary more, or come out slower, than this machine can do.
"""

from __future__ import annotations

import msgspec


class NoiseSource(msgspec.Struct, frozen=True):
    """What was looked at, and what was found there."""

    what: str
    """A short name that stays: ``governor``, ``load``."""
    found: str
    """In one line."""
    disturbs: bool
    """Whether figures measured now vary more, or come out slower, than this machine can do."""
    known: bool = True
    """Whether this machine tells; what is not known disturbs nothing."""


def unknown(what: str, why: str) -> NoiseSource:
    """Return that a machine does not tell."""
    return NoiseSource(what, f"unknown: {why}", disturbs=False, known=False)
