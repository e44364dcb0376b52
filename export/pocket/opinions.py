"""Photographs that people rated: LIVE In the Wild, as a folder holds it, split once and for all.

The public gets it at https://live.ece.utexas.edu/research/ChallengeDB; ``mos.csv`` beside ``images`` lists file, file
in the original, mean opinion score (0 to 100) and standard deviation. Its notice goes with every copy (OPINIONS.txt).
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEST_EVERY = 6
"""One photograph of so many is kept to test with: neither trained on nor chosen by."""


@dataclass(frozen=True)
class RatedPhoto:
    """One photograph and what people think of it."""

    path: Path
    opinion: float
    """Mean opinion, 0 to 1."""
    is_test: bool


def read_opinions(folder: Path) -> list[RatedPhoto]:
    """Return the photographs of the folder, in the order of its table.

    Raises:
        FileNotFoundError: there is no such table.
    """
    table = folder / "mos.csv"
    if not table.is_file():
        raise FileNotFoundError(
            f"{table}: not found; --clive takes a folder of LIVE In the Wild with images and mos.csv"
        )
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [RatedPhoto(folder / "images" / row["file"], float(row["mos"]) / 100, _is_test(row["file"])) for row in rows]


def _is_test(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % TEST_EVERY == 0
