"""The command ``stars``: scores as XMP ratings for photo programs, and the undoing of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aesedge.cli.library_options import CatalogueFile
from aesedge.cli.options import Printing, with_options
from aesedge.cli.photos import Failures, error_info
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import dim, print_error, shown, status, table
from aesedge.engine.results import photo_fields
from aesedge.errors import AesedgeError, UsageError
from aesedge.stars.cut_points import Rule, parse_cuts
from aesedge.stars.labels_and_keywords import OfferOptions
from aesedge.xmp.sidecar import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aesedge.library.records import JudgedPhoto
    from aesedge.stars.plan import PhotoPlan
    from aesedge.stars.writing import WriteResult
    from aesedge.xmp.file_change import FileChange
    from aesedge.xmp.journal import FileEdit

_WHAT, _WHERE = "What is written", "Where"


@with_options(json="Print a line for each photo, or for each file that is taken back.")
def stars(
    named: Annotated[
        list[str] | None,
        typer.Argument(metavar="DIR...", help="Folders or photos that 'aesedge rate' has judged; a run with --undo."),
    ] = None,
    stars: Annotated[
        Rule,
        typer.Option(help="By fixed scores, by shares of the best, or none.", rich_help_panel=_WHAT),
    ] = "absolute",
    cuts: Annotated[
        str | None,
        typer.Option(
            help="Scores from which on there are 2, 3, 4, 5 stars; with --stars share the percent that have 5, "
            "at least 4, and so on.",
            show_default="3.5,5,6.5,8; 5,15,40 for share",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Colour labels by score, in the words of your program, e.g. Green=7,Yellow=5,Red=0.",
            show_default="none",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    keywords: Annotated[
        bool, typer.Option("--keywords", help="Add the keyword 'aesedge score 7'.", rich_help_panel=_WHAT)
    ] = False,
    reject_below: Annotated[
        float | None,
        typer.Option(
            help="Mark photos below this score as rejected, as the program of --for does.",
            show_default="never",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    program: Annotated[
        Program,
        typer.Option(
            "--for", help="Whose names sidecars have; auto edits what is there already.", rich_help_panel=_WHERE
        ),
    ] = "auto",
    embed: Annotated[
        bool, typer.Option("--embed", help="Write into JPEGs, as Lightroom needs it.", rich_help_panel=_WHERE)
    ] = False,
    catalogue: CatalogueFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be written.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back the last run, or the one that is named.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs that can be taken back.")] = False,
    printing: Printing = Printing(),
) -> None:
    """Offer scores to Lightroom, darktable, digiKam and Capture One as XMP ratings.

    What a person has rated, labelled or flagged is never changed, and stays the person's for all later runs. Every edit
    is in a journal: --undo restores each byte of files that are as aesedge left them; in others it takes back only what
    aesedge wrote.
    """
    if runs:
        _list_runs(printing)
        return
    if undo:
        _undo(named or [], printing)
        return
    if not named:
        raise UsageError("name a folder; 'aesedge stars --help' shows how")
    options = OfferOptions(
        stars=stars,
        cuts=parse_cuts(cuts, stars),
        labels=_labels(labels),
        keywords=keywords,
        reject_below=reject_below,
        program=program,
        embed=embed,
    )
    _write(named, options, catalogue, dry_run=dry_run, printing=printing)


def _labels(text: str | None) -> tuple[tuple[str, float], ...]:
    found = []
    for part in (text or "").split(",") if text else []:
        name, equals, least = part.rpartition("=")
        try:
            found.append((name.strip(), float(least)))
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise UsageError(f"--labels {text!r}: write label=score with commas between, e.g. Green=7,Yellow=5")
    return tuple(sorted(found, key=lambda label: -label[1]))


def _write(
    named: list[str], options: OfferOptions, catalogue: Path | None, *, dry_run: bool, printing: Printing
) -> None:
    from aesedge.stars.plan import plan_all
    from aesedge.stars.writing import write_plans
    from aesedge.xmp.journal import Journal

    photos = judged_photos(named, catalogue)
    report = _Report(printing, dry_run=dry_run)
    with Journal() as journal, status(f"{len(photos)} photos", quiet=printing.quiet) as show:
        plans = _counted(plan_all(photos, options, journal.people()), len(photos), show)
        if dry_run:
            for plan in plans:
                report.add(plan, list(plan.changes), plan.error)
        else:
            result = write_plans(plans, journal, " ".join(sys.argv[1:]), report.add)
    report.print_rows()
    if not printing.quiet and not dry_run:
        print_result(result, report.n_left)
    report.failures.exit_if_any()


def judged_photos(named: list[str], catalogue: Path | None) -> list[JudgedPhoto]:
    """Return what the catalogue knows of the named folders and photos, each photo once."""
    from aesedge.library.catalogue import open_catalogue

    with open_catalogue(catalogue) as opened:
        by_path = {photo.path: photo for name in named for photo in opened.judgements(name)}
    if not by_path:
        raise UsageError(f"{' '.join(named)}: no photo there is judged yet; 'aesedge rate' does that")
    return list(by_path.values())


class _Report:
    """What is printed of each photo."""

    def __init__(self, printing: Printing, *, dry_run: bool) -> None:
        self.failures = Failures(printing)
        self.n_left = 0
        self._rows: list[list[str]] = []
        self._json, self._dry_run = printing.json, dry_run

    def add(self, plan: PhotoPlan, changes: list[FileChange], error: AesedgeError | None) -> None:
        """Report a photo: the files that are, or would be, written."""
        self.n_left += bool(plan.left)
        if error is not None:
            self.failures.add(plan.photo.path, error)
        elif self._json:
            print_json(_line(plan, changes))
        if self._dry_run and not self._json:
            self._rows.append(_row(plan, changes, error))

    def print_rows(self) -> None:
        """Print the table of a dry run."""
        if self._rows:
            print(table(self._rows, header=["photo", "score", "offer", "files", "left alone"]))


def _counted(plans: Iterator[PhotoPlan], n: int, show: Callable[[float], None]) -> Iterator[PhotoPlan]:
    for i, plan in enumerate(plans):
        yield plan
        show((i + 1) / n)


def _row(plan: PhotoPlan, changes: list[FileChange], error: AesedgeError | None) -> list[str]:
    offer = plan.offer
    rating = "" if offer is None or offer.stars is None else "reject" if offer.stars < 0 else "★" * offer.stars
    if offer is not None and offer.label:
        rating = f"{rating} {offer.label}".strip()
    files = ", ".join(change.path.name + (" (new)" if change.is_new else "") for change in changes)
    left = "; ".join(plan.left) if error is None else " ".join(str(error).split())
    return [short_path(plan.photo.path), f"{plan.photo.score:.1f}", rating, files or "-", left]


def short_path(path: str) -> str:
    """Return a path as short as it can be written from here."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return path if relative.startswith("..") else relative


def _line(plan: PhotoPlan, changes: list[FileChange]) -> dict[str, Any]:
    offer = plan.offer
    return {
        **photo_fields(plan.photo.path),
        "score": round(plan.photo.score, 6),
        "stars": None if offer is None else offer.stars,
        "label": None if offer is None else offer.label,
        "files": [{"file": str(change.path), "new": change.is_new} for change in changes],
        "left": list(plan.left),
    }


def print_result(result: WriteResult, n_left: int) -> None:
    """Say on stderr what a run has written, and how it is taken back."""
    left = f"; {n_left} photos left alone, in part or whole (--dry-run says why)" if n_left else ""
    if result.run is None:
        print(f"nothing to write{left}", file=sys.stderr)
        return
    undone = f"'aesedge stars --undo {result.run}' takes it back"
    made = f"run {result.run}: {result.n_new} sidecars made, {result.n_edited} files edited"
    print(f"{made}{left}\n{dim(undone)}", file=sys.stderr)


def _undo(named: list[str], printing: Printing) -> None:
    from aesedge.stars.writing import undo_run
    from aesedge.xmp.journal import Journal

    counts: dict[str, int] = {}
    failures = Failures(printing)

    def done(made: FileEdit, outcome: str | AesedgeError) -> None:
        name = str(made.path)
        if isinstance(outcome, AesedgeError):
            failures.n_failed += 1
            print_error(str(outcome))
            if printing.json:
                print_json({"file": name, "error": error_info(outcome)})
            return
        counts[outcome] = counts.get(outcome, 0) + 1
        if printing.json:
            print_json({"file": name, "undone": outcome})
        elif outcome in {"ours taken back", "gone"}:
            print(f"{shown(name)}: {_WHY[outcome]}")

    with Journal() as journal:
        run = journal.run_to_undo(_run_number(named))
        with status(f"run {run.id}, {run.n_files} files", quiet=printing.quiet):
            undo_run(journal, run, done)
    if not printing.quiet:
        parts = ", ".join(f"{counts[how]} {words}" for how, words in _DONE.items() if how in counts)
        print(f"run {run.id} of {run.began}: {parts or 'nothing was left of it'}", file=sys.stderr)
    failures.exit_if_any()


_WHY = {
    "ours taken back": "another program has changed it since; only what aesedge wrote is taken back",
    "gone": "is gone, and is not made again",
}
_DONE = {
    "restored": "files restored byte for byte",
    "removed": "sidecars removed",
    "ours taken back": "changed since, and only ours taken back",
    "as before": "as before already",
    "gone": "gone",
}


def _run_number(named: list[str]) -> int | None:
    if not named:
        return None
    if len(named) > 1 or not (named[0].isascii() and named[0].isdigit()):
        raise UsageError(f"--undo {' '.join(named)}: name one run by its number; 'aesedge stars --runs' lists them")
    return int(named[0])


def _list_runs(printing: Printing) -> None:
    from aesedge.xmp.journal import Journal

    with Journal() as journal:
        runs = journal.runs()
    if printing.json:
        for run in runs:
            print_json(
                {"run": run.id, "began": run.began, "files": run.n_files, "command": run.command, "undone": run.undone}
            )
    elif not runs:
        print("no run has written anything")
    else:
        rows = [[str(run.id), run.began, str(run.n_files), run.undone or "-", run.command] for run in runs]
        print(table(rows, header=["run", "began", "files", "undone", "command"]))
