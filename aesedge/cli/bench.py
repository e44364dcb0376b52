"""The command ``bench``: how fast this machine is; knows options and where results go, measures and draws nothing."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from aesedge.cli.compare import compare
from aesedge.cli.exit_codes import INTERRUPTED
from aesedge.cli.loading import options_of
from aesedge.cli.options import Loading, Printing, expand
from aesedge.cli.terminal import complain, status
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.bench.benchmark import Benchmark
    from aesedge.bench.result import Result
    from aesedge.bundle import Bundle

_WHAT, _OUTPUT = "What is measured", "Output"


class Format(str, enum.Enum):
    """How a result is written."""

    table = "table"
    md = "md"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    sql = "sql"


class Purpose(str, enum.Enum):
    """What the model is used for."""

    critique = "critique"
    score = "score"


class Rival(str, enum.Enum):
    """Who does the same work."""

    mtmd = "mtmd"


app = typer.Typer(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
app.command("compare")(compare)


@app.callback()
@expand
def bench(
    context: typer.Context,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Random weights of this shape instead of a bundle, made in the cache folder: llava-1.5-7b, "
            "llava-1.5-13b, pocket, or name:n_embd=2048,... Other types are predicted too.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    photo: Annotated[
        list[Path] | None,
        typer.Option(help="A photo; may be given several times.", show_default="two samples", rich_help_panel=_WHAT),
    ] = None,
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", help="Of each row, where there is time.", rich_help_panel=_WHAT)
    ] = 5,
    seconds: Annotated[
        float, typer.Option(help="For all rows; each is measured once in any case.", rich_help_panel=_WHAT)
    ] = 240.0,
    purpose: Annotated[
        Purpose,
        typer.Option(help="Settings for texts, or for scores alone (see tune).", rich_help_panel=_WHAT),
    ] = Purpose.critique,
    against: Annotated[
        Rival | None,
        typer.Option(
            help="The same photos and weights through llama.cpp's own libmtmd, in turns.",
            show_default="nobody",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    quality: Annotated[
        bool, typer.Option(help="Compare what is said with the bundle's most precise setting.", rich_help_panel=_WHAT)
    ] = True,
    kernels: Annotated[
        bool,
        typer.Option("--kernels", help="Run the native kernels too, where they are built.", rich_help_panel=_WHAT),
    ] = False,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format", help="How it is written.", show_default="table, or by --out's name", rich_help_panel=_OUTPUT
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write it into this file, and print the table.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw it into this PNG; with --kernels the roofline.", show_default=False, rich_help_panel=_OUTPUT
        ),
    ] = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Measure how fast this machine is with a bundle, from the file to the critique.

    Rows have llama-bench's names: pp576 prefills 576 tokens, tg128 @ d640 decodes 128 behind 640. The JSON has all
    samples. Let no other program be busy meanwhile. Ctrl-C keeps what was measured by then.
    """
    if context.invoked_subcommand is not None:
        return
    form = _format(format_, out, as_json=printing.json)
    for path in (out, plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{path}: cannot be written: there is no folder {path.absolute().parent}")
    from aesedge.bench.benchmark import Benchmark, Wanted

    wanted = Wanted(
        repetitions=repetitions, seconds=seconds, against=against is not None, quality=quality, kernels=kernels
    )
    options = dataclasses.replace(options_of(loading), purpose=purpose.value)
    bundle = _bundle(shape, loading, quiet=printing.quiet)
    writer = None
    if shape is not None:
        from aesedge.cli.shape_bundle import probe_writer

        writer = probe_writer(bundle, options.plan(bundle).gguf)
    with Benchmark(bundle, options, photo or [], wanted, writer) as benchmark:
        stopped = _run(benchmark, bundle, quiet=printing.quiet)
        result = benchmark.finish()
        if result is not None:
            result.complete = not stopped
            _show(result, form, out, plot, quiet=printing.quiet)
    if stopped:
        complain("stopped: " + ("what was measured by then was kept" if result else "nothing was measured yet"))
        raise typer.Exit(INTERRUPTED)


def _format(asked: Format | None, out: Path | None, *, as_json: bool) -> Format:
    if asked is not None:
        return asked
    if as_json:
        return Format.json
    suffix = out.suffix.lower().removeprefix(".") if out is not None else ""
    return Format(suffix) if suffix in {form.value for form in Format} else Format.table


def _bundle(shape: str | None, loading: Loading, *, quiet: bool) -> Bundle:
    """Return what is measured.

    Raises:
        AesedgeError: there is no such bundle, or none can be made.
    """
    if shape is None:
        from aesedge.bundle import open_bundle

        return open_bundle(loading.bundle)
    from aesedge.cli.shape_bundle import DEFAULT_GGUF, DEFAULT_VISION, bundle_of_shape

    vision = DEFAULT_VISION if loading.vision == "auto" else loading.vision
    return bundle_of_shape(
        shape,
        loading.gguf or DEFAULT_GGUF,
        vision,
        device=loading.device.value,
        memory=loading.memory,
        quiet=quiet,
    )


def _run(benchmark: Benchmark, bundle: Bundle, *, quiet: bool) -> bool:
    """Run all steps; returns whether somebody stopped it."""
    try:
        for name, step in benchmark.steps():
            with status(f"{bundle.name}: {name}", quiet=quiet) as show:
                step(show)
    except KeyboardInterrupt:
        return True
    return False


def _show(result: Result, form: Format, out: Path | None, plot: Path | None, *, quiet: bool) -> None:
    """Print the result, or write it, and draw it.

    Raises:
        UsageError: a file cannot be written.
    """
    from aesedge.bench.formats import left_out, render
    from aesedge.cli.bench_text import result_text
    from aesedge.whole_file import write_whole

    text = result_text(result) if form is Format.table else render(result, form.value)
    if out is None:
        print(text)
    else:
        try:
            _save(out, lambda: write_whole(out, text.encode() + b"\n"))
        except UsageError:
            print(text)  # what took minutes is not lost
            raise
        if not quiet:
            print(result_text(result))
            print(f"\nWritten to {out}.")
    lost = "" if form is Format.table else left_out(result, form.value)
    if lost and not quiet:
        complain(lost)
    if plot is not None:
        _save(plot, lambda: _draw(result, plot))


def _draw(result: Result, path: Path) -> None:
    if result.kernels is not None:
        from aesedge.bench.kernels import KernelReport
        from aesedge.bench.roofline import draw_roofline

        draw_roofline(msgspec.convert(result.kernels, KernelReport), path)
        return
    from aesedge.bench.chart import save_chart

    save_chart(result, path)


def _save(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
