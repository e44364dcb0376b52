"""Plan which files are written for a photo, and why some are left alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aesedge.errors import XmpError
from aesedge.image.find_photos import RAW_SUFFIXES
from aesedge.stars.cut_points import stars_of
from aesedge.stars.labels_and_keywords import Offer, changes_for, make_offer
from aesedge.xmp.file_change import FileChange, plan_change
from aesedge.xmp.packet import NEW_PACKET, Packet
from aesedge.xmp.person import PersonValues, person_values
from aesedge.xmp.photo_xmp import PhotoXmp, XmpReader
from aesedge.xmp.property_names import LABEL, PICK, PICK_LABEL, RATING, SIDECAR_FOR_EXTENSION
from aesedge.xmp.sidecar import JPEG_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from aesedge.library.records import JudgedPhoto
    from aesedge.stars.labels_and_keywords import OfferOptions

_EMPTY = Packet(NEW_PACKET, "")


@dataclass(frozen=True)
class PhotoPlan:
    """What is to be done for one picture."""

    photo: JudgedPhoto
    offer: Offer | None = None
    changes: tuple[FileChange, ...] = ()
    left: tuple[str, ...] = ()
    """Why something, or all, is left alone."""
    error: XmpError | None = None
    people: tuple[tuple[str, str], ...] = ()
    """Files and properties in which a person's value was seen."""


def plan_all(
    photos: Sequence[JudgedPhoto], options: OfferOptions, people: Iterable[tuple[str, str]] = ()
) -> Iterator[PhotoPlan]:
    """Yield the plan of each picture.

    Args:
        photos: what the catalogue knows.
        options: what is offered.
        people: files and properties in which a person's value was seen by an earlier run.
    """
    reader = XmpReader(options.program)
    seen = frozenset(people)
    judged = [photo.score for photo in photos if photo.score_from == "model"]
    stars = iter(stars_of(judged, options.stars, options.cuts))
    for photo in photos:
        if photo.score_from != "model":
            yield PhotoPlan(photo, left=("only the first pass has seen it",))
            continue
        n_stars = next(stars)
        try:
            yield _plan(photo, n_stars, reader, options, seen)
        except XmpError as error:
            yield PhotoPlan(photo, error=error)


def _plan(
    photo: JudgedPhoto, stars: int | None, reader: XmpReader, options: OfferOptions, seen: frozenset[tuple[str, str]]
) -> PhotoPlan:
    files = reader.read_files(photo.files)
    if not files:
        return PhotoPlan(photo, left=("the photo is away",))
    person = remembered(person_values(files), files, seen)
    offer = make_offer(photo, stars, person, options)
    changes, refusals = [], []
    for file in files:
        targets = _targets(file, options)
        refusals += [] if targets else [file.sidecars.refusal]
        for path, packet in targets:
            wanted = changes_for(photo, offer, person, packet or _EMPTY, options)
            if packet is None and path.stem == file.photo.stem and file.photo.suffix.lower() in RAW_SUFFIXES:
                wanted[SIDECAR_FOR_EXTENSION] = file.photo.suffix.removeprefix(".")
            change = plan_change(path, packet, wanted)
            changes += [] if change is None else [change]
    left = offer.kept if len(refusals) < len(files) else (*offer.kept, *dict.fromkeys(refusals))
    return PhotoPlan(photo, offer, tuple(changes), left, people=tuple(people_in(person, files)))


def _targets(file: PhotoXmp, options: OfferOptions) -> list[tuple[Path, Packet | None]]:
    """Return the files that are written for a photo file, each with its packet."""
    if options.embed and file.photo.suffix.lower() in JPEG_SUFFIXES:
        existing = [(path, file.by_sidecar[path]) for path in file.sidecars.target if path in file.by_sidecar]
        return [(file.photo, file.embedded), *existing]
    return [(path, file.by_sidecar.get(path)) for path in file.sidecars.target]


def people_in(person: PersonValues, files: Iterable[PhotoXmp]) -> Iterator[tuple[str, str]]:
    """Yield the photos and sidecars of a picture, with the properties in which a person has set something."""
    found = ((RATING, person.rating), (LABEL, person.label), (PICK, person.pick), (PICK_LABEL, person.pick))
    for name, value in found:
        if value is not None:
            for file in files:
                yield from ((str(path), name.local) for path in (file.photo, *file.by_sidecar))


def remembered(person: PersonValues, files: Sequence[PhotoXmp], seen: frozenset[tuple[str, str]]) -> PersonValues:
    """Return what a person has set, what an earlier run saw included: it stays theirs, whatever it is now."""
    for name, field in ((RATING, "rating"), (LABEL, "label"), (PICK, "pick")):
        if getattr(person, field) is None and any((str(file.photo), name.local) in seen for file in files):
            texts = [text for file in files for packet in file.packets for text in packet.texts(name)]
            person = replace(person, **{field: next(iter(texts), "")})
    return person
