"""The commands ``run`` and ``score``: photos in, opinions out; knows what is printed, not how it is found."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

from aesedge.cli.exit_codes import SOME_FAILED
from aesedge.cli.loading import constrained, load_model, writing
from aesedge.cli.options import AnswerGrammar, AnswerSchema, Loading, Printing, WritingOptions, expand
from aesedge.cli.photo_task import PhotoReport, PhotoTask
from aesedge.cli.photos import STDIN, check_stdin_once, complain_of, each_photo, find_photos, look_at, sources
from aesedge.cli.result_text import show_remarks
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import padded, shown, status
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from aesedge.engine.model import Model
    from aesedge.engine.results import PhotoResult


@expand
def run(
    photos: Annotated[
        list[str] | None, typer.Argument(help="Photos; - is an image on stdin. Without any: an interactive session.")
    ] = None,
    ask: Annotated[list[str] | None, typer.Option(help="Ask this too; may be given several times.")] = None,
    critique: Annotated[bool, typer.Option(help="Whether to write a critique.")] = True,
    report: Annotated[
        bool, typer.Option("--report", help="Write a report too: each attribute, strengths, faults, advice.")
    ] = False,
    schema: AnswerSchema = None,
    grammar: AnswerGrammar = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep the photo's KV on disk: it answers at once after a restart.")
    ] = False,
    loading: Loading = Loading(),
    writing_options: WritingOptions = WritingOptions(),
    printing: Printing = Printing(),
) -> None:
    """Look at photos: score, attributes, critique.

    The score, 0 to 10, is the model's own opinion, read from the probabilities of its answers High, Medium and Low.
    It is not the mean opinion of people. A photo whose decoding would take more than half of the free memory is
    refused.
    """
    chosen, questions = writing(writing_options), ask or []
    if not all(question.strip() for question in questions):
        raise UsageError("--ask has no text; write a question")
    if not photos and sys.stdin.isatty():
        if questions or report or pin or not critique or schema or grammar:
            raise UsageError("--ask, --report, --pin and their like are about photos; name one")
        from aesedge.cli.chat import interactive

        interactive(loading, chosen, printing)
        return
    if (schema or grammar) and not questions:
        raise UsageError("--schema and --grammar are about the answers to --ask; ask something")
    asking = PhotoTask(
        critique=chosen if critique else None,
        report=chosen if report else None,
        questions=questions,
        answers=constrained(chosen, schema=schema, grammar=grammar),
        pin=pin,
    )
    names = photos or [STDIN]
    check_stdin_once(names)
    with load_model(loading, photos=len(names), quiet=printing.quiet) as model:
        if len(names) == 1 and not printing.json:
            ask_one(model, names[0], asking, quiet=printing.quiet)
            return

        def show(opinion: PhotoReport) -> None:
            if printing.json:
                print_json(opinion.result().to_builtins())
            else:
                opinion.show(quiet=printing.quiet)

        at_once = min(len(names), model.photos_at_once)
        outcomes = model.each(sources(names), lambda photo: asking.ask(photo).finished(), at_once=at_once)
        n_failed = each_photo(outcomes, names, show, quiet=printing.quiet)
    if n_failed:
        raise typer.Exit(SOME_FAILED)


def ask_one(model: Model, name: str, asking: PhotoTask, *, quiet: bool) -> None:
    """Look at one photo, and print its texts while they are written.

    Raises:
        typer.Exit: with code 1, if it cannot be read.
    """
    try:
        with status(f"looking at {name}", quiet=quiet):
            photo = look_at(model, name)
        with photo:
            with status(f"rating {name}", quiet=quiet):
                opinion = asking.ask(photo)
            opinion.show(quiet=quiet)
    except AesedgeError as error:
        complain_of(name, error)
        raise typer.Exit(SOME_FAILED) from None


@expand
def score(
    photos: Annotated[list[str], typer.Argument(help="Photos or folders; - is an image on stdin.")],
    attributes: Annotated[bool, typer.Option(help="Whether to score the attributes too.")] = True,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Score photos and folders of photos; no text is generated.

    The score, 0 to 10, is the model's own opinion, not the mean opinion of people. A photo whose decoding would take
    more than half of the free memory is refused.
    """
    started = time.perf_counter()
    names, n_failed = find_photos(photos)
    check_stdin_once(names)
    width = max(cell_len(shown(name)) for name in names)

    def show(found: PhotoResult) -> None:
        if printing.json:
            print_json(found.to_builtins())
            return
        columns = "".join(f"  {shown(name)} {rating.score:4.1f}" for name, rating in found.attributes.items())
        print(f"{found.score:4.1f}  {padded(shown(found.photo), width)}{columns}".rstrip(), flush=True)
        show_remarks(found.remarks)

    with load_model(loading, purpose="score", quiet=printing.quiet) as model:
        outcomes = model.score_many(sources(names), attributes=attributes)
        n_failed += each_photo(outcomes, names, show, quiet=printing.quiet, started=started)
    if n_failed:
        raise typer.Exit(SOME_FAILED)
