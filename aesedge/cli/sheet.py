"""The command ``sheet``: a contact sheet for a browser, and what was decided on it written beside the photos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.library_options import CatalogueFile
from aesedge.cli.options import Printing, with_options
from aesedge.cli.photos import Failures
from aesedge.cli.stars import judged_photos, print_result
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import print_error, shown, status
from aesedge.engine.results import photo_fields
from aesedge.errors import AesedgeError, UsageError
from aesedge.xmp.sidecar import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.stars.plan import PhotoPlan
    from aesedge.xmp.file_change import FileChange

_PAGE, _APPLY = "Page", "Decisions"


@with_options(json="Print the page and its photos as one JSON object, or a line for each decision.")
def sheet(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="DIR...", help="Folders or photos that 'aesedge rate' has judged.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page; with --single-file its file.", rich_help_panel=_PAGE)
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title.", show_default="the folders", rich_help_panel=_PAGE)] = None,
    single_file: Annotated[
        bool,
        typer.Option(
            "--single-file",
            help="One file with the thumbnails inside, for mail; no full pictures.",
            rich_help_panel=_PAGE,
        ),
    ] = False,
    apply: Annotated[
        Path | None,
        typer.Option(
            help="Write the decisions that the page has saved, as your own ratings.",
            show_default=False,
            rich_help_panel=_APPLY,
        ),
    ] = None,
    program: Annotated[
        Program, typer.Option("--for", help="Whose names sidecars have.", rich_help_panel=_APPLY)
    ] = "auto",
    embed: Annotated[bool, typer.Option("--embed", help="Write into JPEGs.", rich_help_panel=_APPLY)] = False,
    catalogue: CatalogueFile = None,
    printing: Printing = Printing(),
) -> None:
    """Make a contact sheet that opens in any browser, offline: filters, full pictures, comparison, the reasons.

    Rate with Lightroom's keys, save the decisions as a file, and write them with --apply; 'aesedge stars --undo' takes
    that back.
    """
    if apply is not None:
        _apply(apply, catalogue, program, embed=embed, printing=printing)
        return
    if not folders or out is None:
        raise UsageError("name a folder of photos, and --out for the page; 'aesedge sheet --help' shows how")
    inside = next((folder for folder in folders if out.resolve().is_relative_to(Path(folder).resolve())), None)
    if inside is not None and not single_file:
        raise UsageError(f"--out {out} is inside {inside}, where 'aesedge rate' would judge its thumbnails")
    _make(folders, out, title, catalogue, single_file=single_file, printing=printing)


def _make(
    folders: list[str], out: Path, title: str | None, catalogue: Path | None, *, single_file: bool, printing: Printing
) -> None:
    from aesedge.contact_sheet.sheet import write_sheet

    photos = judged_photos(folders, catalogue)
    here = [photo for photo in photos if any(Path(name).exists() for name in photo.files)]
    failures = Failures(printing)

    def failed(name: str, error: AesedgeError) -> None:
        failures.n_failed += 1
        print_error(str(error) if name in str(error) else f"{name}: {error}")

    with status(f"contact sheet of {len(here)} photos", quiet=printing.quiet) as show:
        name = title or ", ".join(Path(folder).resolve().name or folder for folder in folders)
        path = write_sheet(here, out, name, single_file=single_file, failed=failed, progress=show)
    if printing.json:
        print_json({"page": str(path), "photos": len(here), "away": len(photos) - len(here)})
    else:
        print(shown(str(path)))
    if len(here) < len(photos) and not printing.quiet:
        print(f"{len(photos) - len(here)} photos are away, and left out", file=sys.stderr)
    failures.exit_if_any()


def _apply(path: Path, catalogue: Path | None, program: Program, *, embed: bool, printing: Printing) -> None:
    from aesedge.contact_sheet.decisions import plan_decisions, read_decisions
    from aesedge.library.catalogue import open_catalogue
    from aesedge.stars.writing import write_plans
    from aesedge.xmp.journal import Journal

    decisions = read_decisions(path)
    failures = Failures(printing)
    with open_catalogue(catalogue) as opened:
        photos = list(opened.judgements())

    def plans() -> Iterator[PhotoPlan]:
        for decision, plan in plan_decisions(decisions, photos, program, embed=embed):
            if isinstance(plan, AesedgeError):
                failures.add(decision.photo, plan)
            else:
                yield plan

    def done(plan: PhotoPlan, written: list[FileChange], error: AesedgeError | None) -> None:
        if error is not None:
            failures.add(plan.photo.path, error)
        elif printing.json:
            print_json({**photo_fields(plan.photo.path), "files": [str(change.path) for change in written]})

    with Journal() as journal, status(f"{len(decisions)} decisions", quiet=printing.quiet):
        result = write_plans(plans(), journal, " ".join(sys.argv[1:]), done)
    if not printing.quiet:
        print_result(result, 0)
    failures.exit_if_any()
