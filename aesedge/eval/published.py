"""Published accuracies on AesBench, from ``published.json`` beside this file, which names its source."""

from __future__ import annotations

from pathlib import Path

import msgspec

_PATH = Path(__file__).with_name("published.json")
EMPATHY = ("Emotion", "Interest", "Uniqueness", "Vibe")
DIMENSIONS = ("Technical quality", "Color and light", "Composition", "Content", *EMPATHY)
"""Of perception and of empathy, in the order of the published charts."""


class Published(msgspec.Struct, frozen=True):
    """A table of results."""

    source: str
    note: str
    models: dict[str, dict[str, float]]
    """Model to dimension or task to accuracy, 0 to 100."""


def published() -> Published:
    """Return the table."""
    return msgspec.json.decode(_PATH.read_bytes(), type=Published)


def dimension_of(name: str) -> str | None:
    """Return the published name of a dimension that a file calls ``Color & light``, ``technical`` or the like."""
    letters = "".join(c for c in name.lower() if c.isalpha())
    return next(
        (d for d in DIMENSIONS if len(letters) > 2 and d.lower().replace(" ", "").startswith(letters[:5])), None
    )
