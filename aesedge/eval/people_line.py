"""Keep the straight line from a bundle's scores to people's ratings, as ``eval ratings --fit`` found it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from aesedge.errors import UsageError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.paths import data_folder
from aesedge.system.regular_file import read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.eval.ratings import Agreement

FOLDER = ".people"
_MOST_BYTES = 1 << 16
Bounded = Annotated[float, msgspec.Meta(ge=-1000.0, le=1000.0)]


class PeopleLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people would say of a photograph, as far as a score tells."""

    slope: Bounded
    intercept: Bounded
    srcc: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]
    """Rank correlation on the photographs that the line was fitted to."""
    n_photos: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    table: Annotated[str, msgspec.Meta(max_length=1000)]
    """File name of the ratings."""

    def opinion(self, score: float) -> float:
        """Return people's opinion of a photograph with this score, 0 to 10."""
        return min(10.0, max(0.0, self.slope * score + self.intercept))


def line_path(settings: dict[str, Any]) -> Path:
    """Return where the line of a bundle under these settings is kept."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return data_folder() / FOLDER / f"{settings['bundle']}-{key}.json"


def save_line(settings: dict[str, Any], found: Agreement, table: str) -> Path:
    """Keep the line, in place of an earlier one; return the file.

    Raises:
        OSError: it cannot be written.
    """
    slope, intercept = found.line
    path = line_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = PeopleLine(slope, intercept, found.srcc.value, found.n, table[:1000])
    write_atomic(path, msgspec.json.format(msgspec.json.encode(line), indent=2) + b"\n")
    return path


def load_line(settings: dict[str, Any]) -> PeopleLine:
    """Return the line of a bundle under these settings.

    Raises:
        UsageError: none was fitted, or its file is damaged.
    """
    path = line_path(settings)
    advice = "'aesedge eval ratings TABLE --fit' makes one, with the same --bundle and options"
    try:
        return msgspec.json.decode(read_regular(path, most_bytes=_MOST_BYTES), type=PeopleLine)
    except FileNotFoundError:
        raise UsageError(
            f"bundle {settings['bundle']}: no line to people's ratings for these settings; {advice}"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{path}: cannot be used: {error}; {advice}") from None
