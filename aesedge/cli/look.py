"""The commands ``run`` and ``score``: photos in, opinions out; knows what is printed, not how it is found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.exit_codes import SOME_FAILED
from aesedge.cli.loading import constrained, load_model, writing
from aesedge.cli.options import AnswerGrammar, AnswerSchema, Loading, Printing, WritingOptions, expand
from aesedge.cli.report import show_ratings, show_reply, show_report
from aesedge.cli.terminal import complain, shown, status
from aesedge.errors import AesedgeError, UsageError

if TYPE_CHECKING:
    from aesedge.engine import Model
    from aesedge.photo import Photo

STDIN = "-"


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
    It is not the mean opinion of people.
    """
    if not photos and sys.stdin.isatty():
        from aesedge.cli.session import interactive

        interactive(loading, writing(writing_options), printing)
        return
    chosen, questions = writing(writing_options), ask or []
    if (schema or grammar) and not questions:
        raise UsageError("--schema and --grammar are about the answers to --ask; ask something")
    chosen_for_answers = constrained(chosen, schema=schema, grammar=grammar)

    def show(photo: Photo) -> None:
        with status(f"rating {photo.name}", quiet=printing.quiet):
            score, attributes = photo.score_and_attributes()
        if pin:
            photo.pin()
        replies = [photo.critique(chosen)] if critique else []
        answers = [(question, photo.ask(question, chosen_for_answers)) for question in questions]
        if printing.json:
            for reply in [*replies, *(reply for _, reply in answers)]:
                reply.read()
            done = photo.result(
                score,
                attributes,
                critique=replies[0] if replies else None,
                report=photo.report(chosen) if report else None,
                answers=answers,
            )
            print(done.to_json(), flush=True)
            return
        show_ratings(photo.name, score, attributes)
        for question, reply in [("", r) for r in replies] + answers:
            print(f"\n  > {question}" if question else "", flush=True)
            show_reply(reply)
        if report:
            with status("writing the report", quiet=printing.quiet):
                written = photo.report(chosen)
            print()
            show_report(written)
        print(flush=True)

    with load_model(loading, quiet=printing.quiet) as model:
        each_photo(model, photos or [STDIN], show, quiet=printing.quiet)


@expand
def score(
    photos: Annotated[list[str], typer.Argument(help="Photos or folders; - is an image on stdin.")],
    attributes: Annotated[bool, typer.Option(help="Whether to score the attributes too.")] = True,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Score photos and folders of photos; no text is generated.

    The score, 0 to 10, is the model's own opinion, not the mean opinion of people.
    """
    names = list(expand_folders(photos))
    width = max(map(len, names), default=0)
    started = time.perf_counter()

    def show(photo: Photo) -> None:
        overall, others = photo.score_and_attributes() if attributes else (photo.score(), {})
        if printing.json:
            print(photo.result(overall, others).to_json(), flush=True)
        else:
            columns = "".join(f"  {name} {rating.score:4.1f}" for name, rating in others.items())
            print(f"{overall.score:4.1f}  {shown(photo.name):<{width}}{columns}".rstrip(), flush=True)

    with load_model(loading, quiet=printing.quiet) as model:
        try:
            each_photo(model, names, show, quiet=printing.quiet)
        finally:
            if len(names) > 1 and not printing.quiet:
                took = time.perf_counter() - started
                print(f"{len(names)} photos, {60 * len(names) / took:.0f} a minute, loading included", file=sys.stderr)


def each_photo(model: Model, names: list[str], show: Callable[[Photo], None], *, quiet: bool) -> None:
    """Look at one photo after the other; one that cannot be read is named on stderr, and the others are done.

    Raises:
        typer.Exit: with code 1 at the end, if some failed.
    """
    n_failed = 0
    for n_done, name in enumerate(names):
        try:
            counted = f"[{n_done + 1}/{len(names)}] " if len(names) > 1 else ""
            with status(f"{counted}looking at {name}", quiet=quiet):
                photo = look_at(model, name)
            with photo:
                show(photo)
        except AesedgeError as error:
            n_failed += 1
            text = str(error)
            complain(text if name in text or name == STDIN else f"{name}: {text}")
    if n_failed:
        raise typer.Exit(SOME_FAILED)


def look_at(model: Model, name: str) -> Photo:
    """Look at a photo by name, or at the image on stdin.

    Raises:
        ImageError: it cannot be read.
        UsageError: stdin has no image.
    """
    if name != STDIN:
        return model.look(name)
    data = sys.stdin.buffer.read()
    if not data:
        raise UsageError("no photo: name one, or send an image to stdin; 'aesedge run --help' shows how")
    return model.look(data, name="stdin")


def expand_folders(names: list[str]) -> Iterator[str]:
    """Yield photos as named, and those in the folders that are named.

    Raises:
        UsageError: a folder has no photos.
    """
    from aesedge.folder import photos_in

    for name in names:
        if name == STDIN or not Path(name).is_dir():
            yield name
            continue
        found = [str(path) for path in photos_in(Path(name))]
        if not found:
            raise UsageError(f"{name}: no photos in this folder")
        yield from found
