"""The command ``chat`` and the interactive session of ``run``: lines in, answers out."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote_to_bytes, urlsplit

import typer

from aesedge.cli.loading import load_model, writing
from aesedge.cli.options import Loading, Printing, WritingOptions, with_options
from aesedge.cli.photos import Failures, error_info, look_at
from aesedge.cli.result_text import show_ratings, show_reply, show_report
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, shown, status
from aesedge.engine.results import photo_fields
from aesedge.errors import AesedgeError, UsageError
from aesedge.image.find_photos import PHOTO_SUFFIXES
from aesedge.system.sanitize import sanitize
from aesedge.system.termination import Terminated

if TYPE_CHECKING:
    from aesedge.engine.conversation import Conversation
    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo

_HELP = {
    "a photo's path": "talk about that photo (dropping the file on the terminal works too)",
    "anything else": "a question about the photo",
    "/score": "score and attributes of the photo",
    "/critique": "a critique of the photo",
    "/report": "the same in parts: each attribute, strengths, faults, advice",
    "/retry": "ask the last question again",
    "/undo": "take the last question and its answer back",
    "/pin": "keep the photo's KV cache on disk: no image prefill after a restart",
    "/unpin": "remove it from the disk",
    "/new": "forget the conversation, keep the photo",
    "/help": "this text",
    "/quit": "end (so does Ctrl-D)",
}


@with_options(json="Print one JSON object per answer and line; its kind says what it is.")
def chat(
    photo: Annotated[str | None, typer.Argument(help="The photo to talk about; - is an image on stdin.")] = None,
    loading: Loading = Loading(),
    writing_options: WritingOptions = WritingOptions(),
    printing: Printing = Printing(),
) -> None:
    """Talk about one photo in several turns.

    Questions are read line by line, from a terminal or a pipe; /help lists the commands. Without PHOTO, type its path
    first.
    """
    chosen = writing(writing_options)
    if photo is None:
        interactive(loading, chosen, printing)
        return
    failures = Failures(printing)
    with load_model(loading, quiet=printing.quiet) as model:
        session = Session(model, chosen, printing)
        try:
            session.look(photo)
        except AesedgeError as error:
            failures.add(photo, error)
        else:
            session.talk()
    failures.exit_if_any()


def interactive(loading: Loading, chosen: GenerationOptions, printing: Printing) -> None:
    """Start a session without a photo: it waits for paths and questions."""
    with load_model(loading, quiet=printing.quiet) as model:
        if sys.stdin.isatty() and not (printing.quiet or printing.json):
            about = shown(f"{model.bundle.name} ({model.gguf.lower()})")
            print(f"{bold('aesedge')} {about}: type a photo's path, then ask about it. /help, /quit")
        Session(model, chosen, printing, rate_at_first=True).talk()


class Session:
    """One user, one model, one photo at a time.

    Every line that is read has one result; with ``--json`` that is one line of JSON, whose ``kind`` says what it is.
    """

    def __init__(
        self, model: Model, chosen: GenerationOptions, printing: Printing, *, rate_at_first: bool = False
    ) -> None:
        self._model = model
        self._writing = chosen
        self._printing = printing
        self._rate_at_first = rate_at_first
        self._photo: Photo | None = None
        self._conversation: Conversation | None = None

    def look(self, path: str) -> None:
        """Look at a photo and forget the one before, with its conversation.

        Raises:
            AesedgeError: it cannot be read; the one before stays.
        """
        with status(f"looking at {path}", quiet=self._printing.quiet):
            photo = look_at(self._model, path)
        self._close_conversation()
        if self._photo is not None:
            self._photo.close()
        self._photo = photo

    def talk(self) -> None:
        """Read lines until there are no more."""
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # as Python holds names that are not UTF-8
        if sys.stdin.isatty():
            with contextlib.suppress(ImportError):  # absent on Windows
                importlib.import_module("readline")  # gives input() its line editing
        while (line := self._read_line()) is not None:
            if line in {"/quit", "/exit", "/bye"}:
                break
            if line:
                self._answer(line)
        self._close_conversation()

    def _print_json(self, kind: str, **fields: Any) -> None:
        photo = photo_fields(self._photo.name) if self._photo is not None else {}
        print_json({"kind": kind, **photo, **fields})

    def _print_done(self, kind: str, text: str, **fields: Any) -> None:
        """Print what a command has done: a remark, or its fields as JSON."""
        if self._printing.json:
            self._print_json(kind, **fields)
        else:
            print(dim(sanitize(f"  ({text})")), flush=True)

    def _read_line(self) -> str | None:
        """Return the next line without space around it, or None at the end."""
        try:
            if not sys.stdin.isatty():
                line = sys.stdin.readline()
                return line.strip() if line else None
            if self._printing.json or not sys.stdout.isatty():  # where Python would print the prompt too
                print("> ", end="", file=sys.stderr, flush=True)
                return input("").strip()
            return input("> ").strip()
        except EOFError:
            print(file=sys.stderr if self._printing.json else sys.stdout)
            return None
        except OSError as error:  # a folder was given as stdin, or the terminal has gone
            print_error(f"stdin: cannot be read: {error.strerror or error}")
            return None

    def _answer(self, line: str) -> None:
        """Do what a line says; whatever fails, the session goes on."""
        try:
            self._do(line)
        except AesedgeError as error:
            if self._printing.json:
                self._print_json("error", error=error_info(error))
            print_error(str(error))
        except Terminated:
            raise
        except KeyboardInterrupt:
            if not self._printing.json:
                print()
            self._print_done("stopped", "stopped")

    def _do(self, line: str) -> None:
        commands = {
            "/help": self._help,
            "/new": self._new,
            "/retry": self._retry,
            "/undo": self._undo,
            "/pin": self._pin,
            "/unpin": self._unpin,
            "/score": self._rate,
            "/critique": self._critique,
            "/report": self._report,
        }
        path = photo_path(line)
        if line in commands:
            commands[line]()
        elif path is not None:
            self.look(path)
            if self._rate_at_first:
                self._rate()
            elif self._printing.json:
                self._print_json("photo")
        elif line.startswith("/"):
            raise UsageError(f"there is no {line.split(maxsplit=1)[0]}; /help lists the commands")
        else:
            self._ask(line)

    def _current(self) -> Photo:
        if self._photo is None:
            raise UsageError("no photo yet: type a photo's path first")
        return self._photo

    def _help(self) -> None:
        if self._printing.json:
            self._print_json("help", commands=_HELP)
        else:
            print("\n".join(f"  {name:<17}  {text}" for name, text in _HELP.items()))

    def _rate(self) -> None:
        photo = self._current()
        with status("rating", quiet=self._printing.quiet):
            score, attributes = photo.score_and_attributes()
        if self._printing.json:
            self._print_json("score", **photo.result(score, attributes).to_builtins())
        else:
            show_ratings(photo.name, score, attributes, remarks=photo.remarks)

    def _critique(self) -> None:
        self._ask(self._model.manifest.prompt.critique)

    def _report(self) -> None:
        photo = self._current()
        with status("writing the report", quiet=self._printing.quiet):
            report = photo.report(self._writing)
        if self._printing.json:
            self._print_json("report", report=report)
        else:
            show_report(report)

    def _ask(self, question: str) -> None:
        photo = self._current()
        if self._conversation is None:
            self._conversation = photo.conversation()
        reply = self._conversation.stream(question, self._writing)
        if not self._printing.json:
            show_reply(reply)
            return
        answer = reply.read()
        self._print_json("answer", ask=question, answer=answer.text.strip(), finish_reason=answer.finish_reason)

    def _retry(self) -> None:
        self._ask(self._begun().undo())

    def _undo(self) -> None:
        question = self._begun().undo()
        self._print_done("undo", f"taken back: {question}", ask=question)

    def _pin(self) -> None:
        pinned = self._current().pin()
        self._print_done("pin", "kept on disk" if pinned else "could not be kept", ok=pinned)

    def _unpin(self) -> None:
        unpinned = self._current().unpin()
        self._print_done("unpin", "no longer kept" if unpinned else "was not kept", ok=unpinned)

    def _new(self) -> None:
        self._close_conversation()
        self._print_done("new", "a new conversation")

    def _begun(self) -> Conversation:
        if self._conversation is None:
            raise UsageError("nothing was said yet that could be taken back")
        return self._conversation

    def _close_conversation(self) -> None:
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None


def photo_path(line: str) -> str | None:
    """Return the path that a line means, as typed, quoted, escaped or dropped by a file manager; None if it is none.

    A line with a photo's suffix and no space is taken for a path even if there is no such file, so that a typing
    error is answered by "there is no such photo" and not by the model.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is not closed: "don't know"
        words = []
    typed = words[0] if len(words) == 1 else line
    if typed.startswith("file://"):
        try:
            typed = os.fsdecode(unquote_to_bytes(urlsplit(typed).path.encode("utf-8", "surrogateescape")))
        except ValueError:  # no URL after all
            return None
    # Of os.path, whose functions raise nothing, whatever a line holds.
    for candidate in map(os.path.expanduser, (line, typed)):
        if os.path.isfile(candidate):  # noqa: PTH113
            return candidate
    looks_like_one = len(words) == 1 and os.path.splitext(typed)[1].lower() in PHOTO_SUFFIXES  # noqa: PTH122
    return os.path.expanduser(typed) if looks_like_one else None  # noqa: PTH111
