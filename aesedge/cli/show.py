"""The command ``show``: what is known of a photo, and why."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aesedge.cli.library_options import CatalogueFile
from aesedge.cli.options import Printing, with_options
from aesedge.cli.photos import Failures
from aesedge.cli.result_text import INDENT, show_ratings, show_report
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import WordWriter, dim, shown
from aesedge.engine.results import Rating, Report, photo_fields
from aesedge.errors import AesedgeError, ImageError, ImageNotFoundError, XmpError
from aesedge.xmp.person import PersonValues, person_values
from aesedge.xmp.photo_xmp import XmpReader

if TYPE_CHECKING:
    from aesedge.library.catalogue import Catalogue
    from aesedge.library.records import JudgedPhoto


@with_options(json="Print one JSON object per photo and line.")
def show(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Photos that 'aesedge rate' has judged.")],
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Show the photo where the terminal can (extra 'show').")
    ] = True,
    catalogue: CatalogueFile = None,
    printing: Printing = Printing(),
) -> None:
    """Show what is known of photos: scores, their place in a burst and why, texts, and what you have set yourself."""
    from aesedge.cli.terminal_image import print_picture
    from aesedge.library.catalogue import open_catalogue

    failures = Failures(printing)
    with open_catalogue(catalogue) as opened:
        for i, name in enumerate(photos):
            try:
                photo = _known(opened, name)
                person, problem = _person(photo)
                if printing.json:
                    print_json(_line(photo, person, problem))
                    continue
                if i:
                    print()
                if picture:
                    print_picture(name)
                _print(photo, person, problem)
            except AesedgeError as error:
                failures.add(name, error)
    failures.exit_if_any()


def _known(catalogue: Catalogue, name: str) -> JudgedPhoto:
    path = os.path.realpath(name)
    for photo in catalogue.judgements(name):
        if photo.path == path:
            return photo
    for photo in catalogue.judgements(Path(path).parent):  # the RAW of a JPEG that was judged for both
        if path in photo.files:
            return photo
    for failed, why in catalogue.failures(name):
        if failed == path:
            raise ImageError(f"{name}: could not be judged: {why.message}")
    if not Path(path).exists():
        raise ImageNotFoundError(f"{name}: there is no such file; check the path")
    raise ImageError(f"{name}: is not judged yet; 'aesedge rate' does that")


def _person(photo: JudgedPhoto) -> tuple[PersonValues, str]:
    """Return what a person has set, and what is wrong with the files that would say so."""
    try:
        return person_values(XmpReader("auto").read_files(photo.files)), ""
    except XmpError as error:
        return PersonValues(), str(error)


def _line(photo: JudgedPhoto, person: PersonValues, problem: str) -> dict[str, Any]:
    frame = photo.frame
    return {
        **photo_fields(photo.path),
        "files": [shown(name) for name in photo.files],
        "score": round(photo.score, 6),
        "score_from": photo.score_from,
        "interval": None if photo.low is None else [photo.low, photo.high],
        **{name: value for name, value in photo.result.items() if name not in {"score", "remarks"}},
        "remarks": [*photo.result.get("remarks", ()), *([problem] if problem else [])],
        "critique": photo.critique,
        "report": photo.report,
        "burst": None
        if frame is None
        else {"kind": frame.kind, "position": frame.position, "frames": frame.n_frames, "reason": frame.reason},
        "person": {"rating": person.rating, "label": person.label, "pick": person.pick},
        "away": photo.is_away,
        "judged_at": _when(photo.judged_at),
    }


def _print(photo: JudgedPhoto, person: PersonValues, problem: str) -> None:
    remarks = [*photo.result.get("remarks", ()), *([problem] if problem else [])]
    if photo.score_from == "model":
        attributes = {name: _rating(found) for name, found in photo.result.get("attributes", {}).items()}
        show_ratings(photo.path, _rating({**photo.result, "score": photo.score}), attributes, remarks=remarks)
    else:
        print(shown(photo.path))
        interval = "" if photo.low is None or photo.high is None else f": {photo.low:.1f} to {photo.high:.1f}"
        print(f"{INDENT}score  {photo.score:.1f}, estimated by the first pass{interval}")
    if photo.frame is not None:
        frame = photo.frame
        print(f"{INDENT}{frame.kind}: {frame.position} of {frame.n_frames}, {shown(frame.reason)}")
    for what, value in (("rated", person.rating), ("label", person.label), ("flag", person.pick)):
        if value is not None:
            print(f"{INDENT}{what} by a person: {shown(value) or 'taken away'}")
    for other in photo.files[1:]:
        print(f"{INDENT}also: {shown(other)}")
    if photo.critique:
        print()
        writer = WordWriter(INDENT)
        writer.write(photo.critique)
        writer.close()
    if photo.report:
        print()
        known = {name: photo.report.get(name) or () for name in ("strengths", "faults")}
        show_report(
            Report(
                photo.report.get("attributes") or {},
                tuple(known["strengths"]),
                tuple(known["faults"]),
                photo.report.get("advice") or "",
            )
        )
    settings = [photo.settings.get(name) for name in ("bundle", "gguf", "vision", "image_tokens")]
    judged = " ".join(str(part) for part in settings if part)
    print(dim(f"{INDENT}judged by {shown(judged)}, {_when(photo.judged_at)}"))


def _rating(found: dict[str, Any]) -> Rating:
    return Rating(
        float(found.get("score", 0.0)),
        dict(found.get("rating") or {}),
        float(found.get("entropy") or 0.0),
        float(found.get("off_label") or 0.0),
    )


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
