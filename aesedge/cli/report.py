"""How ratings and texts look on a terminal; knows results, not how they came about."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aesedge.cli.terminal import WordWriter, bar, bold, dim, shown

if TYPE_CHECKING:
    from aesedge.rating import Rating
    from aesedge.reply import Reply
    from aesedge.result import Report

INDENT = "  "
_MUCH_OFF_LABEL = 0.5


def show_ratings(name: str, score: Rating, attributes: Mapping[str, Rating]) -> None:
    """Print a photo's name, its score, and its attributes with bars."""
    opinion = ", ".join(f"{label} {p:.0%}" for label, p in score.rating.items())
    print(bold(shown(name)))
    width = max(map(len, ["score", *attributes]))
    _line("score", width, score, dim(opinion))
    for attribute, rating in attributes.items():
        _line(attribute, width, rating, "")
    if score.off_label > _MUCH_OFF_LABEL:
        print(dim(f"{INDENT}the model would rather have said something else ({score.off_label:.0%} off the labels)"))


def _line(label: str, width: int, rating: Rating, remark: str) -> None:
    drawn = bar(rating.score / 10)
    print(f"{INDENT}{label:<{width}}  {rating.score:4.1f}  {drawn:<20}  {remark}".rstrip(), flush=True)


def show_reply(reply: Reply) -> None:
    """Print a text as it is generated; what is printed before Ctrl-C stays."""
    writer = WordWriter(INDENT)
    try:
        for piece in reply:
            writer.write(piece)
    finally:
        writer.close()
    if reply.finish_reason == "length":
        print(dim(f"{INDENT}(cut at {len(reply.tokens)} tokens)"))


def show_report(report: Report) -> None:
    """Print a structured critique: a column of names, and beside it what is said, wrapped where a terminal ends."""
    fields = {
        **{name: [text] for name, text in report.attributes.items()},
        "strengths": report.strengths,
        "faults": report.faults,
        "advice": [report.advice],
    }
    width = max(map(len, fields))
    end = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else 10**6
    for name, texts in fields.items():
        for i, text in enumerate(texts):
            begin = f"{INDENT}{'' if i else shown(name):<{width}}  "
            beside = " " * len(begin)
            print(textwrap.fill(shown(text), max(end, width + 24), initial_indent=begin, subsequent_indent=beside))
