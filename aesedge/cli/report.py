"""How ratings and texts look on a terminal; knows results, not how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aesedge.cli.terminal import WordWriter, bar, bold, dim, shown

if TYPE_CHECKING:
    from aesedge.rating import Rating
    from aesedge.reply import Reply

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
