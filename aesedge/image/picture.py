"""Hold a decoded picture together with the warnings about its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_LOST = 0.02
"""A picture of which a larger part is missing is refused; a smaller part is a warning."""


@dataclass
class Picture:
    """A picture as its decoder gives it: any mode and orientation, its profile in ``info``."""

    image: Image.Image
    alpha: Image.Image | None = None
    """Opacity, where the mode cannot hold it."""
    warnings: list[str] = field(default_factory=list)
    """Warnings about its file, in plain sentences."""
