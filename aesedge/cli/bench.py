"""The command ``bench``: measure how fast this machine is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aesedge.cli.bench_compare import compare
from aesedge.cli.bench_output import FormatOption, OutOption, PlotOption, format_of, require_outputs, write_result
from aesedge.cli.bench_output import show as show_result
from aesedge.cli.exit_codes import INTERRUPTED
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import Loading, Printing, with_options
from aesedge.cli.photos import sample_photos
from aesedge.cli.terminal import print_error, status

if TYPE_CHECKING:
    from aesedge.bench.benchmark import BenchmarkRun
    from aesedge.bundle.bundle import Bundle

_WHAT = "What is measured"


app = typer.Typer(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
app.command("compare")(compare)
app.command("show")(show_result)


@app.callback()
@with_options(json="Print the result, with all samples, as one JSON object.")
def bench(
    context: typer.Context,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Use random weights of this shape instead of a bundle, made in the cache folder: llava-1.5-7b, "
            "llava-1.5-13b, pocket, or name:n_embd=2048,... Other types are predicted too.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    photo: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure with this photo or folder; repeatable.",
            show_default="two sample photos",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    repetitions: Annotated[
        int,
        typer.Option("--repetitions", "-r", help="Runs of each row, if there is time.", rich_help_panel=_WHAT),
    ] = 5,
    seconds: Annotated[
        float, typer.Option(help="Time for all rows; each is measured at least once.", rich_help_panel=_WHAT)
    ] = 240.0,
    purpose: Annotated[
        Literal["critique", "score"],
        typer.Option(help="Use the settings for texts, or those for scores alone (see tune).", rich_help_panel=_WHAT),
    ] = "critique",
    against: Annotated[
        Literal["mtmd"] | None,
        typer.Option(
            help="Measure the same photos and weights with llama.cpp's own libmtmd, in turns.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    quality: Annotated[
        bool, typer.Option(help="Compare the answers with the bundle's most precise setting.", rich_help_panel=_WHAT)
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
    Keep other programs idle meanwhile. Ctrl-C keeps what was measured by then.
    """
    if context.invoked_subcommand is not None:
        return
    form = format_of(format_, out, as_json=printing.json)
    require_outputs(out, plot)
    from aesedge.bench.benchmark import BenchmarkRun, BenchOptions

    bench_options = BenchOptions(repetitions=repetitions, seconds=seconds, quality=quality, kernels=kernels)
    options = dataclasses.replace(loading.options, purpose=purpose)
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
    photos = sample_photos(photo, printing)
    with BenchmarkRun(bundle, options, photos, bench_options, predict_types, baseline) as benchmark:
        stopped = _run(benchmark, bundle, quiet=printing.quiet)
        result = benchmark.finish()
        if result is not None:
            result.ok = not stopped
            write_result(result, form, out, plot, printing)
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
    with imports_of_extra("bench --shape", "convert"):
        from aesedge_export.random_weights.shape_bundle import DEFAULT_GGUF, DEFAULT_VISION, bundle_of_shape

    options = loading.options
    made: Bundle = bundle_of_shape(
        shape,
        options.gguf or DEFAULT_GGUF,
        DEFAULT_VISION if options.vision == "auto" else options.vision,
        device=options.device,
        memory=options.memory,
        quiet=quiet,
    )
    return made


def _run(benchmark: BenchmarkRun, bundle: Bundle, *, quiet: bool) -> bool:
    """Run all steps; return whether Ctrl-C stopped it."""
    try:
        for name, step in benchmark.steps():
            with status(f"{bundle.name}: {name}", quiet=quiet) as show:
                step(show)
    except KeyboardInterrupt:
        return True
    return False
