"""Say what the page knows of each photo."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aesedge.errors import XmpError
from aesedge.system.sanitize import sanitize
from aesedge.xmp.person import PersonValues, person_values
from aesedge.xmp.photo_xmp import XmpReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aesedge.library.records import JudgedPhoto

SHOWN_BY_BROWSERS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp"))
_MOST_FAULTS = 40
"""Fault words to filter by."""


def page_data(
    photos: Sequence[JudgedPhoto],
    out: Path,
    *,
    failed: Callable[[str, XmpError], None],
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the page's data: the attributes, fault words and photos.

    Args:
        photos: in the order of their paths.
        out: the sheet's folder; photos are linked from there.
        failed: called with a photo whose XMP cannot be read: what a person has set is not known then.
        progress: called with the part that is done.
    """
    attributes = list(dict.fromkeys(name for photo in photos for name in photo.attributes))
    counts = Counter(fault for photo in photos for fault in _faults(photo))
    faults = [fault for fault, _ in counts.most_common(_MOST_FAULTS)]
    return {
        "attributes": attributes,
        "faults": faults,
        "photos": list(_entries(photos, out, attributes, faults, failed, progress)),
    }


def _entries(
    photos: Sequence[JudgedPhoto],
    out: Path,
    attributes: Sequence[str],
    faults: Sequence[str],
    failed: Callable[[str, XmpError], None],
    progress: Callable[[float], None],
) -> Iterator[dict[str, Any]]:
    reader = XmpReader("auto")
    numbers = {fault: i for i, fault in enumerate(faults)}
    for i, photo in enumerate(photos):
        progress((i + 1) / len(photos))
        try:
            person = person_values(reader.read_files(photo.files))
        except XmpError as error:
            failed(photo.path, error)
            person = PersonValues()
        entry: dict[str, Any] = {
            "n": sanitize(Path(photo.path).name),
            "f": sanitize(photo.path),
            "k": photo.key,
            "s": round(photo.score, 2),
            "u": link(photo, out),
        }
        optional = {
            "a": [round(photo.attributes[name], 1) for name in attributes if name in photo.attributes],
            "b": _burst(photo),
            "c": photo.critique or _report_text(photo),
            "d": photo.about.taken_at,
            "x": [numbers[fault] for fault in _faults(photo) if fault in numbers],
            "e": int(photo.score_from != "model"),
            "r": person.stars,
            "p": _pick(person),
        }
        yield entry | {key: value for key, value in optional.items() if value not in (None, [], 0, "")}


def link(photo: JudgedPhoto, out: Path) -> str:
    """Return the address of a photo's full picture from the sheet's folder."""
    shown = next((name for name in photo.files if Path(name).suffix.lower() in SHOWN_BY_BROWSERS), None)
    if shown is None:
        return f"previews/{photo.key}.webp"
    try:
        relative = os.path.relpath(shown, out)
    except ValueError:  # another drive
        return Path(shown).as_uri()
    return "/".join(quote(os.fsencode(part)) for part in Path(relative).parts)


def _burst(photo: JudgedPhoto) -> list[Any] | None:
    frame = photo.frame
    return None if frame is None else [frame.burst, frame.position, frame.n_frames, frame.reason]


def _pick(person: PersonValues) -> int | None:
    """Return 1 for a photo that a person has picked, -1 for a rejected one."""
    if person.rating == "-1" or person.pick == "-1":
        return -1
    return 1 if person.pick == "1" else None


def _faults(photo: JudgedPhoto) -> list[str]:
    return [str(fault) for fault in (photo.report or {}).get("faults", ())]


def _report_text(photo: JudgedPhoto) -> str:
    """Return a structured critique as text."""
    report = photo.report or {}
    lines = [f"{name}: {text}" for name, text in report.get("attributes", {}).items()]
    lines += [f"Strength: {text}" for text in report.get("strengths", ())]
    lines += [f"Fault: {text}" for text in report.get("faults", ())]
    return "\n".join([*lines, *([str(report["advice"])] if report.get("advice") else [])])
