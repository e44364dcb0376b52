"""Define the callback by which long jobs report their progress."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Called with the progress of each step."""

    def __call__(self, step: str, share: float, detail: str = "") -> None:
        """Take the name of a step, the share of it that is done, 0..1, and what is being worked on."""


def silent(step: str, share: float, detail: str = "") -> None:
    """Show nothing."""
