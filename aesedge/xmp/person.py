"""Tell what a person has set from what aesedge wrote: a value that differs from ours is a person's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.xmp.property_names import (
    ACDSEE_RATING,
    COLOR_LABEL,
    LABEL,
    MICROSOFT_RATING,
    PICK,
    PICK_LABEL,
    RATING,
    WROTE_LABEL,
    WROTE_PICK,
    WROTE_RATING,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aesedge.xmp.packet import Packet
    from aesedge.xmp.photo_xmp import PhotoXmp
    from aesedge.xmp.property_names import Name

_NOTHING = {"", "0", "None"}
"""Values of an unrated, unlabelled, unflagged photo; some cameras write them."""
_PERCENT = {"1": "1", "25": "2", "50": "3", "75": "4", "99": "5"}
"""``MicrosoftPhoto:Rating`` to stars."""


@dataclass(frozen=True)
class PersonValues:
    """What a person has set; None where nothing, or only what aesedge wrote."""

    rating: str | None = None
    """``-1`` to ``5``; empty where the person has taken away what aesedge had written."""
    label: str | None = None
    pick: str | None = None

    @property
    def stars(self) -> int | None:
        """The person's stars, 0 for a rejected photo; None where there are none, or it is not known how many."""
        try:
            stars = round(float(self.rating or ""))
        except ValueError:
            return None
        return max(0, min(stars, 5))


def person_values(files: Iterable[PhotoXmp]) -> PersonValues:
    """Return what a person has set on a picture, in any of its files and sidecars.

    A program that reads our stars and writes them elsewhere (digiKam into Exif) changes no value, and is no person.
    """
    files = list(files)
    packets = [packet for file in files for packet in file.packets]
    ratings = _values(packets, RATING, WROTE_RATING)
    wrote = {_number(text) for packet in packets for text in packet.texts(WROTE_RATING)}
    copies = [text for packet in packets for text in packet.texts(ACDSEE_RATING)]
    copies += [_PERCENT.get(text, text) for packet in packets for text in packet.texts(MICROSOFT_RATING)]
    copies += [str(file.exif_rating) for file in files if file.exif_rating]
    ratings += [text for text in map(_number, copies) if text not in _NOTHING and text not in wrote]
    labels = _values(packets, LABEL, WROTE_LABEL)
    for packet in packets:
        if not packet.properties(LABEL) and not packet.properties(WROTE_LABEL):
            labels += [text for text in packet.texts(COLOR_LABEL) if text not in _NOTHING]
    picks = _values(packets, PICK, WROTE_PICK, PICK_LABEL)
    return PersonValues(*(found[0] if found else None for found in (ratings, labels, picks)))


def _values(packets: Sequence[Packet], name: Name, wrote: Name, *more: Name) -> list[str]:
    """Return the values of a property that are not those that aesedge wrote."""
    ours = {_number(text) for packet in packets for text in packet.texts(wrote)}
    found = []
    for packet in packets:
        texts = [_number(text) for each in (name, *more) for text in packet.texts(each)]
        if packet.properties(wrote) and not texts:  # what aesedge wrote is gone
            texts = [""]
        nothing = set() if packet.properties(wrote) else _NOTHING
        found += [text for text in texts if text not in nothing and text not in ours]
    return sorted(found, key=lambda text: text in _NOTHING)


def _number(text: str) -> str:
    """Return a number in its shortest form: some programs write 4 as 4.0."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text
