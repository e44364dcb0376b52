"""How long work says how far it is; knows no terminal."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Hears how far each step is."""

    def __call__(self, step: str, share: float, detail: str = "") -> None:
        """Hear the name of a step, the share of it that is done, 0..1, and what is being worked on."""


def silent(step: str, share: float, detail: str = "") -> None:
    """OnProgress to nobody."""
