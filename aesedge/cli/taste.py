"""The command ``taste``: what a person's own stars say beyond the score."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.library_options import CatalogueFile, Folders
from aesedge.cli.options import Printing, with_options
from aesedge.cli.stars import judged_photos, short_path
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import print_error, status, table
from aesedge.engine.results import photo_fields

if TYPE_CHECKING:
    from aesedge.library.records import JudgedPhoto
    from aesedge.stars.taste import RatedPhoto, Taste


@with_options(json="Print what was learnt as one JSON object, then a line for each photo.")
def taste(
    folders: Folders,
    top: Annotated[int, typer.Option(help="How many photos are listed, those of the best taste first.")] = 40,
    catalogue: CatalogueFile = None,
    printing: Printing = Printing(),
) -> None:
    """Learn from your own stars, read from sidecars and photos, what the score does not say.

    This needs 50 rated photos of three days. It is offered only where days that were left out show a gain, and is a
    second column beside the score, which stays what it is.
    """
    import numpy as np

    from aesedge.library.catalogue import open_catalogue
    from aesedge.stars.taste import LEAST_DAYS, LEAST_PHOTOS, learn_taste, rated_photos

    photos = judged_photos(folders, catalogue)
    with status(f"reading the stars of {len(photos)} photos", quiet=printing.quiet):
        rated = rated_photos(photos, lambda _name, error: print_error(str(error)))
    n_days = len({one.day for one in rated})
    if len(rated) < LEAST_PHOTOS or n_days < LEAST_DAYS:
        dated = f"{len(rated)} judged and dated photos of {n_days} days have your stars"
        _say_no(f"{dated}; this needs {LEAST_PHOTOS} of {LEAST_DAYS} days", printing)
        return
    with open_catalogue(catalogue) as opened:
        used = opened.settings()
        number = max(used, key=lambda n: used[n][1])
        rows = {photo.content: opened.mean_row(photo.content, number) for photo in photos}
    rated = [one for one in rated if rows[one.photo.content] is not None]
    if len(rated) < LEAST_PHOTOS:
        _say_no("the catalogue has no image embeddings of most rated photos; 'aesedge rate' keeps them", printing)
        return
    learnt = learn_taste(rated, np.array([rows[one.photo.content] for one in rated], np.float64))
    _print_learnt(learnt, printing)
    if learnt.has_gain:
        known = [photo for photo in photos if rows[photo.content] is not None]
        stars = learnt.predict(
            np.array([photo.score for photo in known]), np.array([rows[photo.content] for photo in known], np.float64)
        )
        _print_photos(list(zip(known, map(float, stars), strict=True)), rated, top, printing)


def _say_no(why: str, printing: Printing) -> None:
    if printing.json:
        print_json({"ok": False, "reason": why})
    else:
        print(f"your ratings do not yet say more than the score: {why}")


def _print_learnt(learnt: Taste, printing: Printing) -> None:
    fields = {
        "photos": learnt.n_photos,
        "days": learnt.n_days,
        "error_of_score": round(learnt.error_of_score, 3),
        "error_of_taste": round(learnt.error_of_taste, 3),
        "correlation_of_score": round(learnt.correlation_of_score, 3),
        "correlation_of_taste": round(learnt.correlation_of_taste, 3),
    }
    if printing.json:
        print_json({"ok": learnt.has_gain, **fields})
        return
    days = f"{learnt.n_photos} photos that you have rated, of {learnt.n_days} days, each day predicted from the others"
    print(days if learnt.has_gain else f"your ratings do not yet say more than the score: {days}")
    rows = [
        [name, f"{error:.2f}", f"{correlation:.2f}"]
        for name, error, correlation in (
            ("score", learnt.error_of_score, learnt.correlation_of_score),
            ("taste", learnt.error_of_taste, learnt.correlation_of_taste),
        )
    ]
    print(table(rows, header=["", "error in stars", "rank correlation"]))


def _print_photos(
    found: list[tuple[JudgedPhoto, float]], rated: list[RatedPhoto], top: int, printing: Printing
) -> None:
    yours = {one.photo.path: one.stars for one in rated}
    if printing.json:
        for photo, stars in found:
            line = {"score": round(photo.score, 6), "taste": round(stars, 3), "stars": yours.get(photo.path)}
            print_json({**photo_fields(photo.path), **line})
        return
    best = sorted(found, key=lambda one: -one[1])[: max(top, 0)]
    rows = [
        [short_path(photo.path), f"{photo.score:.1f}", f"{stars:.1f}", str(yours.get(photo.path, ""))]
        for photo, stars in best
    ]
    if rows:
        print()
        print(table(rows, header=["photo", "score", "taste", "your stars"]))
    if len(best) < len(found) and not printing.quiet:
        print(f"{len(found) - len(best)} more; --top lists them", file=sys.stderr)
