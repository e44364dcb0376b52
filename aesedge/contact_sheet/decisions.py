"""Write what a person has decided on a contact sheet, as the person's own values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from aesedge.errors import UsageError, XmpError
from aesedge.stars.plan import PhotoPlan
from aesedge.system.error_text import error_text
from aesedge.system.regular_file import read_regular
from aesedge.system.sanitize import sanitize
from aesedge.xmp.file_change import FileChange, plan_change
from aesedge.xmp.person import PersonValues, person_values
from aesedge.xmp.photo_xmp import PhotoXmp, XmpReader
from aesedge.xmp.property_names import PICK, PICK_LABEL, RATING, WROTE_PICK, WROTE_RATING, Name
from aesedge.xmp.sidecar import JPEG_SUFFIXES, Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.library.records import JudgedPhoto
    from aesedge.xmp.editing import Change
    from aesedge.xmp.packet import Packet

_MOST_BYTES = 2**26
_PICK_LABELS = {1: "3", 0: "0", -1: "1"}
"""digiKam's accepted, none and rejected."""


class Decision(msgspec.Struct, frozen=True):
    """One photo's decision."""

    photo: str
    key: str
    rating: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    pick: Annotated[int, msgspec.Meta(ge=-1, le=1)] | None = None
    was: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    """The person's stars when the sheet was made."""


class _Decisions(msgspec.Struct):
    decisions: list[Decision]


def read_decisions(path: Path) -> list[Decision]:
    """Return what a sheet has saved.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        return msgspec.json.decode(read_regular(path, most_bytes=_MOST_BYTES), type=_Decisions).decisions
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error_text(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: holds no decisions of a contact sheet: {error_text(error)}") from None


def plan_decisions(
    decisions: Sequence[Decision], photos: Sequence[JudgedPhoto], program: Program, *, embed: bool
) -> Iterator[tuple[Decision, PhotoPlan | XmpError]]:
    """Yield what is to be written for each decision.

    Args:
        decisions: of a sheet.
        photos: what the catalogue knows; a photo that was moved is found by its content.
        program: whose names sidecars have.
        embed: whether JPEGs are written into.
    """
    reader = XmpReader(program)
    by_path = {sanitize(photo.path): photo for photo in photos}
    by_key = {photo.key: photo for photo in photos if Path(photo.path).exists()}
    for decision in decisions:
        photo = by_path.get(decision.photo)
        if photo is None or not any(Path(name).exists() for name in photo.files):
            photo = by_key.get(decision.key)
        if photo is None:
            yield decision, XmpError(f"{sanitize(decision.photo)}: is not in the catalogue, or away")
            continue
        try:
            yield decision, _plan(decision, photo, reader, program, embed=embed)
        except XmpError as error:
            yield decision, error


def _plan(decision: Decision, photo: JudgedPhoto, reader: XmpReader, program: Program, *, embed: bool) -> PhotoPlan:
    files = reader.read_files(photo.files)
    person = person_values(files)
    now = person.stars or None
    if decision.rating is not None and now not in {decision.was or None, decision.rating or None}:
        stars = "no stars" if now is None else f"{now} stars"
        raise XmpError(f"{sanitize(photo.path)}: has got {stars} since the sheet was made; they stay")
    wanted = _changes(decision, person, program)
    changes: list[FileChange] = []
    refusals = []
    for file in files:
        targets = _targets(file, embed=embed)
        refusals += [] if targets else [file.sidecars.refusal]
        found = (plan_change(path, packet, wanted) for path, packet in targets)
        changes += [change for change in found if change is not None]
    if len(refusals) == len(files):
        raise XmpError(f"{sanitize(photo.path)}: {refusals[0]}")
    # Without stars a decision leaves no trace that says whose it is.
    is_unrated = decision.rating == 0
    paths = [str(path) for file in files for path in (file.photo, *file.by_sidecar)] if is_unrated else []
    return PhotoPlan(photo, changes=tuple(changes), people=tuple((path, RATING.local) for path in paths))


def _changes(decision: Decision, person: PersonValues, program: Program) -> dict[Name, Change]:
    changes: dict[Name, Change] = {}
    rating = None if decision.rating is None else str(decision.rating)
    if decision.pick is not None:
        changes |= {PICK: str(decision.pick), WROTE_PICK: None}
        if program == "digikam":
            changes[PICK_LABEL] = _PICK_LABELS[decision.pick]
        if program in {"auto", "darktable"}:  # Bridge and darktable know rejected photos by their rating alone
            if decision.pick == -1:
                rating = "-1"
            elif person.rating == "-1" and rating is None:
                rating = "0"
    if rating is not None:
        changes |= {RATING: rating, WROTE_RATING: None}
    return changes


def _targets(file: PhotoXmp, *, embed: bool) -> list[tuple[Path, Packet | None]]:
    if embed and file.photo.suffix.lower() in JPEG_SUFFIXES:
        return [(file.photo, file.embedded), *((path, p) for path, p in file.by_sidecar.items())]
    return [(path, file.by_sidecar.get(path)) for path in file.sidecars.target]
