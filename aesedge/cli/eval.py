"""The command ``eval``: how far a bundle agrees with people's ratings, and how it answers AesBench's questions."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.cli.eval_compare import compare
from aesedge.cli.eval_inputs import Problems, ReportFile, TableOptions
from aesedge.cli.eval_text import aesbench_text, ratings_text
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.loading import load_model
from aesedge.cli.options import Loading, Printing, with_options
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import dim, shown, status
from aesedge.system.atomic_file import write_atomic

if TYPE_CHECKING:
    from aesedge.engine.model import Model
    from aesedge.eval.ratings import ScoredPhoto

app = typer.Typer(no_args_is_help=True, help="Evaluate a bundle against people.")
app.command()(compare)
_LOG = "scores.jsonl"


def _require_plot(path: Path | None) -> None:
    if path is not None:
        from aesedge.bench.plot import require_matplotlib

        require_matplotlib()


@app.command()
@with_options(json="Print the correlations, pairs and calibration as one JSON object.")
def ratings(
    ratings_table: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="CSV or Parquet of pictures and scores, or LIVE In the Wild's folder."),
    ],
    options: TableOptions = TableOptions(),
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for every photo's score; an evaluation that was stopped goes on there."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw scores and ratings to this file, .png or .svg.")] = None,
    report: ReportFile = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Keep the line from scores to people's ratings, for score --people.")
    ] = False,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Compare a bundle's scores with people's ratings of photographs.

    SRCC is the rank correlation, PLCC the linear one after the usual logistic fit; both with the 95 % interval of a
    bootstrap over photographs. A pair counts as right where the photograph that people prefer has the higher score.
    """
    with imports_of_extra("eval", "eval"):
        import scipy  # noqa: F401

        from aesedge.eval.people_line import save_line
        from aesedge.eval.ratings import agreement, score_photos, settings_of, to_builtins
        from aesedge.eval.report import save_report
    _require_plot(plot)
    read = options.read(ratings_table)
    problems = Problems(read.problems, printing)
    scored: list[ScoredPhoto] = []
    with load_model(loading, purpose="score", quiet=printing.quiet) as model:
        settings, title = settings_of(model), _title(model)
        with status(f"scoring {len(read.photos)} photos", quiet=printing.quiet) as show:
            started = time.perf_counter()
            for photo in score_photos(model, read.photos, out / _LOG if out else None, problems.add):
                scored.append(photo)
                show(len(scored) / len(read.photos))
            took = time.perf_counter() - started
    found = agreement(scored)
    text = ratings_text(found, read, f"{title}: {ratings_table.name or ratings_table}")
    if printing.json:
        print_json({"table": str(ratings_table), "model": title, "seconds": round(took, 3), **to_builtins(found)})
    else:
        print(text)
        n_new = sum(photo.is_new for photo in scored)
        if n_new:
            print(dim(f"\n{n_new / took * 60:.0f} photos a minute, loading excluded"))
    if plot is not None:
        from aesedge.eval.charts import save_ratings_chart

        save_ratings_chart(scored, found, f"{title} beside {ratings_table.name}", plot)
    if report is not None:
        heading = f"{title} beside {ratings_table.name}"
        save_report(report, title=heading, command=sys.argv[1:], data=read.path, settings=[settings], text=text)
    if fit:
        path = save_line(settings, found, ratings_table.name)
        if not printing.quiet:
            print(dim(shown(f"'aesedge score --people' uses the line in {path}")), file=sys.stderr)
    problems.exit_if_any()


@app.command()
@with_options(json="Print the accuracies as one JSON object.")
def aesbench(
    benchmark: Annotated[
        Path, typer.Argument(metavar="DIR", help="AesBench_evaluation.json with its images, or VLMEvalKit's TSV.")
    ],
    images: Annotated[Path | None, typer.Option(help="Folder of the images.", show_default="beside the file")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for official response files and every reply; what was stopped goes on there."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a radar chart beside published models to this file, .png or .svg.")
    ] = None,
    report: ReportFile = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Ask AesBench's questions: perception, empathy, assessment, interpretation.

    The official prompts are sent, and answers are matched by VLMEvalKit's rules; beside that stands the accuracy of the
    most probable letter. Interpretations are written to a file for a judge. AesBench may be used for evaluation alone:
    its licence forbids training with it.
    """
    from aesedge.eval.aesbench import official_responses, read_aesbench
    from aesedge.eval.benchmark import ask_all, scores_of, to_builtins
    from aesedge.eval.ratings import settings_of
    from aesedge.eval.report import save_report

    _require_plot(plot)
    read = read_aesbench(benchmark, images)
    problems = Problems(read.problems, printing)
    replies = []
    with load_model(loading, quiet=printing.quiet) as model:
        settings, title = settings_of(model), _title(model)
        with status(f"asking {len(read.items)} questions", quiet=printing.quiet) as show:
            for reply in ask_all(model, read, out / "replies.jsonl" if out else None, problems.add):
                replies.append(reply)
                show(len(replies) / len(read.items))
    if out is not None:
        for name, content in official_responses(read.items, {r.item.key: r.response for r in replies}).items():
            write_atomic(out / name, json.dumps(content, indent=4).encode())  # ASCII: scripts read it in any locale
    found = scores_of(replies)
    text = aesbench_text(found, title, len(replies))
    if printing.json:
        print_json({"benchmark": str(benchmark), "model": title, "n": len(replies), **to_builtins(found)})
    else:
        print(text)
    if plot is not None:
        from aesedge.eval.charts import save_radar_chart

        save_radar_chart(found, f"{title}: {len(replies):,} questions", plot)
    if report is not None:
        heading = f"{title} on AesBench"
        save_report(report, title=heading, command=sys.argv[1:], data=read.path, settings=[settings], text=text)
    problems.exit_if_any()


def _title(model: Model) -> str:
    return f"{model.bundle.name} {model.gguf.lower()}, vision {model.vision.lower()}, {model.n_image_tokens} tokens"
