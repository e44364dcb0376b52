"""The commands ``run`` and ``score``: photos in, scores and texts out."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

from aesedge.cli.loading import constrained, load_model, writing
from aesedge.cli.options import AnswerGrammar, AnswerSchema, Loading, Printing, WritingOptions, with_options
from aesedge.cli.photo_task import PhotoReport, PhotoTask
from aesedge.cli.photos import STDIN, Failures, each_photo, find_photos, look_at, source
from aesedge.cli.result_text import show_remarks
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import padded, shown, status
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from aesedge.engine.model import Model
    from aesedge.engine.results import PhotoResult
    from aesedge.eval.people_line import PeopleLine

_JSON = "Print one JSON object per photo and line; a photo that fails has an error in its line."


@with_options(json=_JSON)
def run(
    photos: Annotated[
        list[str] | None,
        typer.Argument(help="Photos or folders; - is an image on stdin. Without any: an interactive session."),
    ] = None,
    ask: Annotated[list[str] | None, typer.Option(help="Ask this too; repeatable.")] = None,
    critique: Annotated[bool, typer.Option(help="Write a critique.")] = True,
    report: Annotated[
        bool, typer.Option("--report", help="Write a report too: each attribute, strengths, faults, advice.")
    ] = False,
    schema: AnswerSchema = None,
    grammar: AnswerGrammar = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep the photo's KV cache on disk: no image prefill after a restart.")
    ] = False,
    loading: Loading = Loading(),
    writing_options: WritingOptions = WritingOptions(),
    printing: Printing = Printing(),
) -> None:
    """Score photos and write a critique of each.

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
    task = PhotoTask(
        critique=chosen if critique else None,
        report=chosen if report else None,
        questions=questions,
        answers=constrained(chosen, schema=schema, grammar=grammar),
        pin=pin,
    )
    failures = Failures(printing)
    names = find_photos(photos or [STDIN], failures)
    with load_model(loading, photos=len(names), quiet=printing.quiet) as model:
        if len(names) == 1 and not printing.json:
            _stream_one(model, names[0], task, failures, quiet=printing.quiet)
        else:

            def show(done: PhotoReport) -> None:
                if printing.json:
                    print_json(done.result().to_builtins())
                else:
                    done.show(quiet=printing.quiet)

            at_once = min(len(names), model.photos_at_once)
            outcomes = model.each(map(source, names), lambda photo: task.ask(photo).finished(), at_once=at_once)
            each_photo(outcomes, names, show, failures, quiet=printing.quiet)
    failures.exit_if_any()


def _stream_one(model: Model, name: str, task: PhotoTask, failures: Failures, *, quiet: bool) -> None:
    """Print the texts about one photo while they are generated."""
    try:
        with status(f"looking at {name}", quiet=quiet):
            photo = look_at(model, name)
        with photo:
            with status(f"rating {name}", quiet=quiet):
                started = task.ask(photo)
            started.show(quiet=quiet)
    except AesedgeError as error:
        failures.add(name, error)


@with_options(json=_JSON)
def score(
    photos: Annotated[list[str], typer.Argument(help="Photos or folders; - is an image on stdin.")],
    attributes: Annotated[bool, typer.Option(help="Score the attributes too.")] = True,
    people: Annotated[
        bool, typer.Option("--people", help="Add people's opinion, by the line that 'eval ratings --fit' found.")
    ] = False,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Score photos without writing text.

    The score, 0 to 10, is the model's own opinion, not the mean opinion of people. A photo whose decoding would take
    more than half of the free memory is refused.
    """
    started = time.perf_counter()
    failures = Failures(printing)
    names = find_photos(photos, failures)
    width = max(cell_len(shown(name)) for name in names)

    def show(found: PhotoResult) -> None:
        opinion = line.opinion(found.score) if line else None
        if printing.json:
            print_json(found.to_builtins() | ({} if opinion is None else {"people": round(opinion, 6)}))
            return
        columns = "" if opinion is None else f"  people {opinion:4.1f}"
        columns += "".join(f"  {shown(name)} {rating.score:4.1f}" for name, rating in found.attributes.items())
        print(f"{found.score:4.1f}  {padded(shown(found.photo), width)}{columns}".rstrip(), flush=True)
        show_remarks(found.remarks)

    with load_model(loading, purpose="score", quiet=printing.quiet) as model:
        line = _people_line(model) if people else None
        outcomes = model.score_many(map(source, names), attributes=attributes)
        each_photo(outcomes, names, show, failures, quiet=printing.quiet, started=started)
    failures.exit_if_any()


def _people_line(model: Model) -> PeopleLine:
    from aesedge.eval.people_line import load_line
    from aesedge.eval.ratings import settings_of

    return load_line(settings_of(model))
