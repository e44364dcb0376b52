"""The command ``aesedge``: which commands there are, and how errors become exit codes; knows no model."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from typer.exceptions import TyperException

from aesedge import __version__
from aesedge.cli.bench import app as bench
from aesedge.cli.bundles import bundles, info, verify
from aesedge.cli.cache import cache
from aesedge.cli.chat import chat
from aesedge.cli.doctor import doctor
from aesedge.cli.eval import app as evaluate
from aesedge.cli.exit_codes import INTERRUPTED, SOME_FAILED, USAGE
from aesedge.cli.export import export
from aesedge.cli.import_pair import import_pair
from aesedge.cli.pull import pull
from aesedge.cli.quantize import quantize
from aesedge.cli.run_score import run, score
from aesedge.cli.serve import serve
from aesedge.cli.streams import OutputLostError, output_problem, standard_streams
from aesedge.cli.terminal import print_error, show_remarks
from aesedge.cli.tune import tune
from aesedge.errors import AesedgeError
from aesedge.system.error_text import error_text
from aesedge.system.termination import unwound_by_signals

app = typer.Typer(
    name="aesedge",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="AesExpert, the model that judges photographs, on your own machine.",
)
for _command in (run, chat, score, export, pull, quantize, bundles, info, verify, cache, doctor, tune, serve):
    app.command()(_command)
app.command("import")(import_pair)
app.add_typer(bench, name="bench")
app.add_typer(evaluate, name="eval")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"aesedge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """AesExpert, the model that judges photographs, on your own machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0: all done. 1: some photos or files failed, or stdout takes no more. 2: the call is wrong, or nothing could be
        loaded. 130: Ctrl-C. Where a signal, or nobody reading stdout, ends a command, its process ends by that signal.
    """
    code = SOME_FAILED
    with unwound_by_signals(), standard_streams():
        with suppress(OutputLostError):
            code = _run(arguments)
            sys.stdout.flush()
        problem = output_problem(sys.stdout)
        if problem is not None and not isinstance(problem, BrokenPipeError):
            print_error(f"stdout: cannot be written: {problem.strerror}")
            code = SOME_FAILED
    return code


def _run(arguments: Sequence[str] | None) -> int:
    show_remarks(quiet=False)
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except AesedgeError as error:
        print_error(str(error))
        return USAGE
    except typer.Exit as stop:
        return stop.exit_code
    except TyperException as error:
        if error.format_message():  # empty when no command was given: the help has been shown
            print_error(f"{error.format_message()} ('aesedge --help' shows what there is)")
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:  # a disk or a share that fails where nobody expects it
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        print_error(": ".join(filter(None, [where, error_text(error)])))
        return USAGE
    return code if isinstance(code, int) else 0
