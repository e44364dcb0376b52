"""Text of ratings, answers and reports for a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from aesedge.cli.terminal import WordWriter, bar, bold, dim, padded, shown
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from aesedge.engine.answer import AnswerStream
    from aesedge.engine.results import Rating, Report

INDENT = "  "
_MUCH_OFF_LABEL = 0.5


def show_ratings(name: str, score: Rating, attributes: Mapping[str, Rating], *, remarks: Sequence[str] = ()) -> None:
    """Print a photo's name, its score, its attributes with bars, and what is to be said of its file."""
    opinion = ", ".join(f"{label} {p:.0%}" for label, p in score.probabilities.items())
    print(bold(sanitize(name)))
    labels = ["score", *map(shown, attributes)]
    width = max(map(cell_len, labels))
    _line(padded(labels[0], width), score, dim(shown(opinion)))
    for label, rating in zip(labels[1:], attributes.values(), strict=True):
        _line(padded(label, width), rating, "")
    if score.off_label > _MUCH_OFF_LABEL:
        print(dim(f"{INDENT}the model would rather have said something else ({score.off_label:.0%} off the labels)"))
    show_remarks(remarks)


def show_remarks(remarks: Sequence[str]) -> None:
    """Print what is to be said of a photo's file, under its rows."""
    for remark in remarks:
        print(f"{INDENT}note: {sanitize(remark)}", flush=True)


def _line(label: str, rating: Rating, remark: str) -> None:
    drawn = bar(rating.score / 10)
    print(f"{INDENT}{label}  {rating.score:4.1f}  {drawn:<20}  {remark}".rstrip(), flush=True)


def show_reply(reply: AnswerStream) -> None:
    """Print a text as it is generated; what is printed before Ctrl-C stays."""
    writer = WordWriter(INDENT)
    try:
        for piece in reply:
            writer.write(piece)
    finally:
        writer.close()
    if reply.finish_reason == "length":
        print(dim(f"{INDENT}(cut at {reply.n_tokens} tokens)"))


def show_report(report: Report) -> None:
    """Print a structured critique: a column of names, and beside it what is said, wrapped where a terminal ends."""
    fields = {
        **{shown(name): [text] for name, text in report.attributes.items()},
        "strengths": report.strengths,
        "faults": report.faults,
        "advice": [report.advice],
    }
    width = max(map(cell_len, fields))
    end = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else 10**6
    for name, texts in fields.items():
        for i, text in enumerate(texts or ["-"]):
            begin = f"{INDENT}{padded('' if i else name, width)}  "
            beside = " " * len(begin)
            said = sanitize(text, lines=True)
            print(textwrap.fill(said, max(end, width + 24), initial_indent=begin, subsequent_indent=beside))
