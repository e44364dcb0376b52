"""Two sample photographs to try aesedge on and to measure parity with; their sources stand in SOURCES.md."""

from __future__ import annotations

from pathlib import Path

SAMPLE_PHOTOS = tuple(Path(__file__).parent / name for name in ("china.jpg", "flower.jpg"))
