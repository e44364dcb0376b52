"""The commands ``rate`` and ``watch``: judge a library, and remember it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.exit_codes import FAILED
from aesedge.cli.library_options import (
    LIBRARY,
    CatalogueFile,
    WhatIsWritten,
    parse_critique,
    parse_shard,
    parse_share,
)
from aesedge.cli.loading import writing
from aesedge.cli.options import Loading, Printing, WritingOptions, with_options
from aesedge.errors import CatalogueError, ImageError, UsageError

if TYPE_CHECKING:
    from aesedge.cli.library_progress import LibraryProgress
    from aesedge.library.catalogue_writer import CatalogueWriter
    from aesedge.library.rating import Rater

_JSON = "Print one JSON object per photo that is judged now, or fails, and line."


@with_options(json=_JSON)
def rate(
    folders: Annotated[list[str] | None, typer.Argument(metavar="DIR", help="Folders or photos.")] = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="File that names the photos: one on each line, or a Parquet with a column path.",
            show_default="none",
            rich_help_panel=LIBRARY,
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try photos that failed again.", rich_help_panel=LIBRARY)
    ] = False,
    first_pass: Annotated[
        str | None,
        typer.Option(
            help="Have the language model judge this share alone, chosen by the vision tower, e.g. 20%; the others get "
            "an estimate.",
            show_default="all are judged",
            rich_help_panel=LIBRARY,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Judge one part of the photos, e.g. 3/16.", show_default="all", rich_help_panel=LIBRARY),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="The arguments are catalogues: add them to --catalogue.", rich_help_panel=LIBRARY),
    ] = False,
    on: Annotated[
        str,
        typer.Option(help="Where: here, or ray for a Ray cluster (RAY_ADDRESS).", rich_help_panel=LIBRARY),
    ] = "here",
    catalogue: CatalogueFile = None,
    written: WhatIsWritten = WhatIsWritten(),
    loading: Loading = Loading(),
    writing_options: WritingOptions = WritingOptions(),
    printing: Printing = Printing(),
) -> None:
    """Judge the photos of a library that are not judged yet, and remember the results.

    A photo is known again after it was moved, renamed or copied, or after metadata were written into it. Ctrl-C, a
    power cut or a full disk lose nothing that was reported: the next call goes on.

    A RAW and the JPEG or HEIC of its name are one picture. Nothing is written beside the photos.
    """
    from aesedge.cli.library_progress import LibraryProgress
    from aesedge.library.catalogue_writer import open_writer

    if on not in {"here", "ray"}:
        raise UsageError(f"--on {on!r} is neither here nor ray")
    if on == "ray" and (first_pass or shard):
        raise UsageError(
            "--on ray shares the photos by itself and has no first pass; leave out --first-pass and --shard"
        )
    photos = [*(folders or ()), *(_listed(listed) if listed else ())]
    if not photos:
        raise UsageError("name folders or photos, or --list FILE")
    if merge:
        _merge(photos, catalogue, printing)
        return
    progress = LibraryProgress(printing)
    with (
        make_rater(loading, written, writing_options, progress, retry, first_pass, shard) as rater,
        open_writer(catalogue) as file,
    ):
        try:
            if on == "ray":
                _rate_on_ray(file, photos, rater, progress)
            progress.follow(rater.rate(file, photos))
        except CatalogueError as error:  # the disk is full, or gone
            progress.stop(str(error))
            raise typer.Exit(FAILED) from None
        except BaseException:
            if not printing.quiet and progress.survey:
                print(progress.summary(), file=sys.stderr, flush=True)
            raise
    if not printing.quiet and progress.survey:
        print(progress.summary(), file=sys.stderr if printing.json else sys.stdout, flush=True)
    progress.failures.exit_if_any()


def make_rater(
    loading: Loading,
    written: WhatIsWritten,
    writing_options: WritingOptions,
    progress: LibraryProgress,
    retry: bool = False,
    first_pass: str | None = None,
    shard: str | None = None,
) -> Rater:
    """Return what rates as the options say.

    Raises:
        UsageError: an option is wrong.
    """
    from aesedge.bundle.bundle import open_bundle
    from aesedge.library.judging import Texts
    from aesedge.library.rating import Rater, RatingOptions

    has_texts, n_best = parse_critique(written.critique)
    if written.report and not has_texts:
        raise UsageError("--report is written with a critique; say which with --critique all or --critique best:N")
    options = dataclasses.replace(writing(writing_options), deadline=None)
    texts = Texts(options if has_texts else None, options if written.report else None)
    how = RatingOptions(
        texts=texts, n_best=n_best, retry=retry, first_pass=parse_share(first_pass), shard=parse_shard(shard)
    )
    return Rater(open_bundle(loading.bundle), loading.options, how, progress.show_loading)


def _listed(path: Path) -> list[str]:
    from aesedge.library.fleet import listed_photos

    return listed_photos(path)


def _rate_on_ray(file: CatalogueWriter, photos: list[str], rater: Rater, progress: LibraryProgress) -> None:
    """Have a cluster judge what is new; what belongs to it (files of pairs, texts, bursts) is done here afterwards."""
    from aesedge.library.fleet import rate_on_ray

    survey = rater.survey(file, photos)
    for n_done, n_parts in rate_on_ray(file, [*survey.new, *survey.changed], rater):
        progress.show_parts(n_done, n_parts)
    for picture in (*survey.new, *survey.changed):
        failure = file.failure(picture.name)
        if failure is not None:
            progress.fail_elsewhere(picture.name, ImageError(failure.message))


def _merge(parts: list[str], catalogue: Path | None, printing: Printing) -> None:
    from aesedge.library.catalogue_writer import open_writer
    from aesedge.library.merging import merge

    with open_writer(catalogue) as file:
        for part in parts:
            n_new, n_known = merge(Path(part), file)
            if not printing.quiet:
                print(f"{part}: {n_new:,} judgements added, {n_known:,} known", file=sys.stderr, flush=True)
