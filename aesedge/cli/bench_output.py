"""Write the result of ``bench``: to the terminal, a file, a picture; and the command ``bench show``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import msgspec
import typer

from aesedge.cli.options import Printing, with_options
from aesedge.cli.streams import print_json, print_json_lines
from aesedge.cli.terminal import print_error
from aesedge.errors import UsageError
from aesedge.system.error_text import error_text
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bench.result import Result

OUTPUT = "Output"


Format = Literal["table", "md", "csv", "json", "jsonl"]
"""How a result is written."""

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Format of the result.", show_default="by --out's suffix, or table", rich_help_panel=OUTPUT
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Write the result into this file, and print the table.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option(
        help="Draw the result into this PNG; with --kernels the roofline.", show_default=False, rich_help_panel=OUTPUT
    ),
]


@with_options(json="Print the result, with all samples, as one JSON object.")
def show(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="JSON file that bench wrote.")],
    format_: FormatOption = None,
    out: OutOption = None,
    plot: PlotOption = None,
    printing: Printing = Printing(),
) -> None:
    """Show a saved result, as a table or in another format."""
    from aesedge.bench.result import load_result

    form = format_of(format_, out, as_json=printing.json)
    require_outputs(out, plot)
    write_result(load_result(result), form, out, plot, printing)


def format_of(asked: Format | None, out: Path | None, *, as_json: bool) -> Format:
    """Return the format of the file, or of stdout without a file: by name, by the file's suffix, or ``--json``.

    Raises:
        UsageError: stdout would have two formats.
    """
    if asked is not None and as_json and asked != "json" and out is None:
        raise UsageError(f"--json and --format {asked} say both how it is written; give one of them")
    suffix = "" if out is None else out.suffix.lower().removeprefix(".")
    by_suffix = next((form for form in get_args(Format) if form == suffix), None)
    return asked or by_suffix or ("json" if as_json else "table")


def require_outputs(out: Path | None, plot: Path | None) -> None:
    """Check that files can be written, before minutes are spent.

    Raises:
        UsageError: a folder is not there, or nothing may be written there.
        MissingExtraError: there is nothing to draw with.
    """
    for path in (out, plot):
        if path is not None:
            _require_writable(path)
    if plot is not None:
        from aesedge.bench.plot import require_matplotlib

        require_matplotlib()


def _require_writable(path: Path) -> None:
    # Of os.path, whose functions raise nothing, whatever the name is.
    parent = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120
    if not os.path.isdir(parent):  # noqa: PTH112
        raise UsageError(f"{path}: cannot be written: there is no folder {parent}")
    if os.path.isdir(path):  # noqa: PTH112
        raise UsageError(f"{path}: cannot be written: it is a folder; name a file in it")
    if not os.access(path if os.path.exists(path) else parent, os.W_OK):  # noqa: PTH110
        raise UsageError(f"{path}: cannot be written: no permission; name another place")


def write_result(result: Result, form: Format, out: Path | None, plot: Path | None, printing: Printing) -> None:
    """Print the result, or write it into a file and print the table, and draw it.

    Raises:
        UsageError: a file cannot be written.
    """
    from aesedge.bench.output_formats import left_out
    from aesedge.system.atomic_file import write_atomic

    if out is None:
        _print(result, form)
    else:
        try:
            _save(out, lambda: write_atomic(out, _text(result, form).encode() + b"\n"))
        except UsageError:
            _print(result, "json" if printing.json else form)  # what took minutes is not lost
            raise
        if printing.json:
            _print(result, "json")
        elif not printing.quiet:
            _print(result, "table")
            print(f"\nWritten to {sanitize(str(out))}.")
    lost = "" if form == "table" else left_out(result, form)
    if lost and not printing.quiet:
        print_error(lost)
    if plot is not None:
        _save(plot, lambda: _draw(result, plot))


def _text(result: Result, form: Format) -> str:
    from aesedge.bench.output_formats import render
    from aesedge.cli.bench_text import result_text

    return result_text(result) if form == "table" else render(result, form)


def _print(result: Result, form: Format) -> None:
    text = _text(result, form)
    if form == "json":
        print_json(msgspec.json.decode(text))
    elif form == "jsonl":
        print_json_lines(text)
    else:
        print(text)


def _draw(result: Result, path: Path) -> None:
    if result.kernels is not None:
        from aesedge.bench.kernels import draw_roofline

        draw_roofline(result, path)
        return
    from aesedge.bench.chart import save_chart

    save_chart(result, path)


def _save(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error_text(error)}") from None
