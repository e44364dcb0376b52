"""The command ``bench``: how fast this machine is; knows options and where results go, measures and draws nothing."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.bench_compare import compare
from aesedge.cli.bench_output import FormatOption, OutOption, PlotOption, format_of, require_outputs, write_result
from aesedge.cli.bench_output import show as show_result
from aesedge.cli.exit_codes import INTERRUPTED
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import Loading, Printing, expand
from aesedge.cli.terminal import print_error, status

if TYPE_CHECKING:
    from aesedge.bench.benchmark import Benchmark
    from aesedge.bundle.bundle import Bundle

_WHAT = "What is measured"


class Purpose(str, enum.Enum):
    """What the model is used for."""

    critique = "critique"
    score = "score"


class Rival(str, enum.Enum):
    """Who does the same work."""

    mtmd = "mtmd"


app = typer.Typer(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
app.command("compare")(compare)
app.command("show")(show_result)


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
    format_: FormatOption = None,
    out: OutOption = None,
    plot: PlotOption = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Measure how fast this machine is with a bundle, from the file to the critique.

    Rows have llama-bench's names: pp576 prefills 576 tokens, tg128 @ d640 decodes 128 behind 640.
    The JSON has all samples. Let no other program be busy. Ctrl-C keeps what was measured by then.
    """
    if context.invoked_subcommand is not None:
        return
    form = format_of(format_, out, as_json=printing.json)
    require_outputs(out, plot)
    from aesedge.bench.benchmark import Benchmark, BenchOptions

    bench_options = BenchOptions(repetitions=repetitions, seconds=seconds, quality=quality, kernels=kernels)
    options = dataclasses.replace(loading.options, purpose=purpose.value)
    bundle = _bundle(shape, loading, quiet=printing.quiet)
    predict_types = None
    if shape is not None:
        with imports_of_extra("bench --shape", "convert"):
            from aesedge_export.random_weights.type_costs import type_predictor
        from aesedge.config.planning import make_plan

        predict_types = type_predictor(bundle, make_plan(options, bundle).gguf)
    baseline = None
    if against is not None:
        with imports_of_extra("bench --against", "convert"):
            from aesedge_export.llama_cpp_pair.baseline import MtmdBaseline

        MtmdBaseline.require(bundle)
        baseline = MtmdBaseline
    with Benchmark(bundle, options, photo or [], bench_options, predict_types, baseline) as benchmark:
        stopped = _run(benchmark, bundle, quiet=printing.quiet)
        result = benchmark.finish()
        if result is not None:
            result.complete = not stopped
            write_result(result, form, out, plot, quiet=printing.quiet)
    if stopped:
        print_error("stopped: " + ("what was measured by then was kept" if result else "nothing was measured yet"))
        raise typer.Exit(INTERRUPTED)


def _bundle(shape: str | None, loading: Loading, *, quiet: bool) -> Bundle:
    """Return what is measured.

    Raises:
        AesedgeError: there is no such bundle, or none can be made.
    """
    if shape is None:
        from aesedge.bundle.bundle import open_bundle

        return open_bundle(loading.bundle)
    from aesedge.cli.bench_shape import DEFAULT_GGUF, DEFAULT_VISION, bundle_of_shape

    options = loading.options
    vision = DEFAULT_VISION if options.vision == "auto" else options.vision
    return bundle_of_shape(
        shape,
        options.gguf or DEFAULT_GGUF,
        vision,
        device=options.device,
        memory=options.memory,
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
