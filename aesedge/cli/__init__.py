"""The command ``aesedge``: its commands by group, and the exit code of each error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
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
from aesedge.cli.exit_codes import FAILED, INTERRUPTED, OK, USAGE
from aesedge.cli.export import export
from aesedge.cli.import_pair import import_pair
from aesedge.cli.kiosk import kiosk
from aesedge.cli.pull import pull
from aesedge.cli.quantize import quantize
from aesedge.cli.rate import rate
from aesedge.cli.run_score import run, score
from aesedge.cli.serve import serve
from aesedge.cli.sheet import sheet
from aesedge.cli.show import show
from aesedge.cli.stars import stars
from aesedge.cli.streams import OutputLostError, output_problem, standard_streams
from aesedge.cli.table import table as write_table
from aesedge.cli.taste import taste
from aesedge.cli.terminal import print_error, show_remarks
from aesedge.cli.tune import tune
from aesedge.cli.watch import watch
from aesedge.errors import AesedgeError, DownloadError, InferenceError, ParityError
from aesedge.system.error_text import error_text
from aesedge.system.termination import unwound_by_signals

_HELP = "Score and critique photographs with AesExpert, on your own machine."
_GROUPS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Photos": {"run": run, "chat": chat, "score": score},
    "Library": {
        "rate": rate,
        "watch": watch,
        "table": write_table,
        "stars": stars,
        "sheet": sheet,
        "show": show,
        "taste": taste,
    },
    "Bundles": {
        "bundles": bundles,
        "info": info,
        "verify": verify,
        "export": export,
        "import": import_pair,
        "pull": pull,
        "quantize": quantize,
    },
    "This machine": {"doctor": doctor, "tune": tune, "bench": bench, "eval": evaluate},
    "Cache": {"cache": cache},
    "Server": {"serve": serve, "kiosk": kiosk},
}
_FAILURES = (DownloadError, InferenceError, ParityError)
"""Errors in the middle of the work; all others mean that it cannot begin."""

app = typer.Typer(
    name="aesedge",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=_HELP,
)
for _group, _commands in _GROUPS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_group)
        else:
            settings = {"allow_extra_args": _name == "tune"}  # the bundle, as older scripts name it
            app.command(_name, rich_help_panel=_group, context_settings=settings)(_command)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"aesedge {__version__}")
        raise typer.Exit


@app.callback(help=_HELP)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code, one of :mod:`aesedge.cli.exit_codes`. If a signal ends a command, or the reader of its stdout
        goes away, the process ends by that signal.
    """
    code = FAILED
    with unwound_by_signals(), standard_streams():
        with suppress(OutputLostError):
            code = _run(arguments)
            sys.stdout.flush()
        problem = output_problem(sys.stdout)
        if problem is not None and not isinstance(problem, BrokenPipeError):
            print_error(f"stdout: cannot be written: {problem.strerror}")
            code = FAILED
    return code


def _run(arguments: Sequence[str] | None) -> int:
    show_remarks(quiet=False)
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except AesedgeError as error:
        print_error(str(error))
        return FAILED if isinstance(error, _FAILURES) else USAGE
    except typer.Exit as stop:
        return stop.exit_code
    except TyperException as error:
        if error.format_message():  # empty when no command was given: the help has been shown
            print_error(f"{error.format_message()} ('aesedge --help' lists commands and options)")
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:  # a disk or a share that fails in the middle of the work
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        print_error(": ".join(filter(None, [where, error_text(error)])))
        return FAILED
    return code if isinstance(code, int) else OK
