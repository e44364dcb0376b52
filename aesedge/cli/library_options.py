"""Options of the commands about a library, each declared once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from aesedge.errors import UsageError
from aesedge.library.finding import Shard

LIBRARY = "Library"
_BEST = 20

CatalogueFile = Annotated[
    Path | None,
    typer.Option(
        "--catalogue",
        help="File that the judgements are kept in.",
        show_default="library.aesedge in the data folder",
        rich_help_panel=LIBRARY,
    ),
]
Folders = Annotated[list[str], typer.Argument(metavar="DIR", help="Folders or photos.")]


@dataclass(kw_only=True)
class WhatIsWritten:
    """Which texts are written about which photos."""

    critique: Annotated[str, typer.Option(help="Write critiques: none, all, or best:N.", rich_help_panel=LIBRARY)] = (
        "none"
    )
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Write reports too, about the photos that get a critique.", rich_help_panel=LIBRARY
        ),
    ] = False


def parse_critique(text: str) -> tuple[bool, int | None]:
    """Parse ``--critique``: whether critiques are written, and about how many of the best; None for all."""
    if text in {"none", "all"}:
        return text == "all", None
    match = re.fullmatch(r"best(?:[ :=]?([1-9][0-9]{0,8}))?", text.strip())
    if match is None:
        raise UsageError(f"--critique {text!r} is neither none, all nor best:N, e.g. best:20")
    return True, int(match[1] or _BEST)


def parse_share(text: str | None) -> float | None:
    """Parse ``--first-pass``: 20%, 0.2."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*(%?)", text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--first-pass {text!r} is no share of the photos; write e.g. 20%")
    return share


def parse_shard(text: str | None) -> Shard | None:
    """Parse ``--shard``: 3/16."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} is no part of a whole; write e.g. 3/16 for the third of sixteen parts")
    return Shard(int(match[1]), int(match[2]))
