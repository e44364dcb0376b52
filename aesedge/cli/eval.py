"""The command ``eval``: how far a bundle agrees with people's ratings, and how it answers AesBench's questions."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from aesedge.cli.exit_codes import FAILED
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.loading import load_model
from aesedge.cli.options import Loading, Printing, with_options
from aesedge.cli.photos import Failures
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, shown, status, table
from aesedge.errors import AesedgeError, UsageError
from aesedge.eval.aesbench import LEVELS
from aesedge.system.atomic_file import write_atomic

if TYPE_CHECKING:
    from aesedge.eval.benchmark import Scores
    from aesedge.eval.ratings import Agreement, ScoredPhoto
    from aesedge.eval.ratings_table import RatingsTable

app = typer.Typer(no_args_is_help=True, help="Evaluate a bundle against people.")
_LOG = "scores.jsonl"


@app.command()
@with_options(json="Print the correlations, pairs and calibration as one JSON object.")
def ratings(
    ratings_table: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="CSV or Parquet of pictures and scores, or LIVE In the Wild's folder."),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Where the pictures are.", show_default="beside the table, or in images there")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of the pictures.", show_default="found")] = None,
    score_column: Annotated[str | None, typer.Option(help="Column of the scores.", show_default="found")] = None,
    scale: Annotated[
        str | None, typer.Option(help="What the scores are out of, as LOW:HIGH.", show_default="found")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for every photo's score; an evaluation that was stopped goes on there."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw scores and ratings to this PNG file.")] = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Compare a bundle's scores with people's ratings of photographs.

    SRCC is the rank correlation, PLCC the linear one after the usual logistic fit; both with the 95 % interval of a
    bootstrap over photographs. A pair counts as right where the photograph that people prefer has the higher score.
    """
    with imports_of_extra("eval", "eval"):
        import scipy  # noqa: F401

        from aesedge.eval.ratings import agreement, score_photos, to_builtins
        from aesedge.eval.ratings_table import read_ratings
    if plot is not None:
        from aesedge.bench.plot import require_matplotlib

        require_matplotlib()
    read = read_ratings(
        ratings_table, images=images, image_column=image_column, score_column=score_column, scale=_scale(scale)
    )
    for problem in read.problems:
        print_error(problem)
    failures = Failures(printing)
    scored: list[ScoredPhoto] = []
    with load_model(loading, purpose="score", quiet=printing.quiet) as model:
        title = (
            f"{model.bundle.name} {model.gguf.lower()}, vision {model.vision.lower()}, {model.n_image_tokens} tokens"
        )
        with status(f"scoring {len(read.photos)} photos", quiet=printing.quiet) as show:
            started = time.perf_counter()
            for photo in score_photos(model, read.photos, out / _LOG if out else None, failures.add):
                scored.append(photo)
                show(len(scored) / len(read.photos))
            took = time.perf_counter() - started
    found = agreement(scored)
    if printing.json:
        print_json({"table": str(ratings_table), "model": title, "seconds": round(took, 3), **to_builtins(found)})
    else:
        _show(found, read, f"{title}: {ratings_table.name or ratings_table}")
        n_new = sum(photo.is_new for photo in scored)
        if n_new:
            print(dim(f"\n{n_new / took * 60:.0f} photos a minute, loading excluded"))
    if plot is not None:
        from aesedge.eval.charts import save_ratings_chart

        save_ratings_chart(scored, found, f"{title} beside {ratings_table.name}", plot)
    if failures.n_failed or read.problems:
        raise typer.Exit(FAILED)


@app.command()
@with_options(json="Print every setting and the recommended one as one JSON object.")
def compare(
    ratings_table: Annotated[Path, typer.Argument(metavar="TABLE", help="As for eval ratings.")],
    types: Annotated[
        str, typer.Option(help="Quantization types, with commas between.", show_default="the bundle's")
    ] = "",
    precisions: Annotated[
        str, typer.Option(help="Precisions of the vision graph.", show_default="the chosen one")
    ] = "",
    tokens: Annotated[str, typer.Option(help="Numbers of image tokens.", show_default="all of them")] = "",
    kv_types: Annotated[str, typer.Option(help="Types of the KV cache.", show_default="the chosen one")] = "",
    images: Annotated[
        Path | None, typer.Option(help="Where the pictures are.", show_default="beside the table, or in images there")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for every photo's scores; a comparison that was stopped goes on there."),
    ] = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Compare settings of a bundle on rated photographs: every combination of the values that are given.

    The first value of each option makes the reference. A setting loses nothing measurable where the 95 % interval of
    the change of its rank correlation reaches 0.
    """
    with imports_of_extra("eval", "eval"):
        import scipy  # noqa: F401

        from aesedge.eval.compare import all_settings, compare_settings, recommended
        from aesedge.eval.ratings_table import read_ratings
    from aesedge.bundle.bundle import open_bundle

    read = read_ratings(ratings_table, images=images)
    failures, reported = Failures(printing), set()
    for problem in read.problems:
        print_error(problem)

    def fail(name: str, error: AesedgeError) -> None:  # of all settings, once
        if name not in reported:
            reported.add(name)
            failures.add(name, error)

    settings = all_settings(
        dataclasses.replace(loading.options, purpose="score", cache="0"),
        gguf=_values(types),
        vision=_values(precisions),
        image_tokens=[_whole(value) for value in _values(tokens)],
        kv_type=_values(kv_types),
    )
    with status(f"scoring {len(read.photos)} photos under {len(settings)} settings", quiet=printing.quiet) as show:
        found = compare_settings(open_bundle(loading.bundle), settings, read.photos, out, fail, show)
    best = recommended(found)
    if printing.json:
        rows = [{k: v for k, v in dataclasses.asdict(s).items() if k != "options"} for s in found]
        print_json({"table": str(ratings_table), "settings": rows, "recommended": best.name})
    else:
        header = ["setting", "SRCC", "change [95 %]", "drift, points", "photos a minute"]
        print(table([[
            shown(s.name), str(s.srcc), str(s.change) if s.change else "reference", f"{s.drift:.3f}",
            f"{s.photos_per_minute:.0f}",
        ] for s in found], header=header))  # fmt: skip
        print(f"\nThe fastest that loses nothing measurable: {shown(best.name)}")
        print(dim("photos a minute: median of three rounds in turns, loading excluded, nothing cached"))
    if failures.n_failed or read.problems:
        raise typer.Exit(FAILED)


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

    read = read_aesbench(benchmark, images)
    for problem in read.problems:
        print_error(problem)
    failures = Failures(printing)
    replies = []
    with load_model(loading, quiet=printing.quiet) as model:
        title = (
            f"{model.bundle.name} {model.gguf.lower()}, vision {model.vision.lower()}, {model.n_image_tokens} tokens"
        )
        with status(f"asking {len(read.items)} questions", quiet=printing.quiet) as show:
            for reply in ask_all(model, read, out / "replies.jsonl" if out else None, failures.add):
                replies.append(reply)
                show(len(replies) / len(read.items))
    if out is not None:
        for name, content in official_responses(read.items, {r.item.key: r.response for r in replies}).items():
            write_atomic(out / name, msgspec.json.format(msgspec.json.encode(content), indent=2))
    found = scores_of(replies)
    if printing.json:
        print_json({"benchmark": str(benchmark), "model": title, "n": len(replies), **to_builtins(found)})
    else:
        _show_aesbench(found, title, len(replies))
    if failures.n_failed or read.problems:
        raise typer.Exit(FAILED)


def _show_aesbench(found: Scores, title: str, n: int) -> None:
    print(bold(shown(f"{title}: {n:,} questions of AesBench")))
    rows = [
        [
            task, shown(group) or "all", str(one.n), _percent(one.n_by_text / one.n),
            _percent(one.n_by_probability / one.n), str(one.n_unclear),
        ]
        for (task, group), one in sorted(found.groups.items())
    ]  # fmt: skip
    if not rows:
        print("No right answers are known: the replies are in the response files (--out).")
        return
    print(table(rows, header=["task", "", "n", "by text", "by probability", "unclear"]))
    if found.confusion:
        most_frequent = f"the most frequent level alone would have {_percent(found.majority)}"
        print(f"\n{bold('Assessment')}, by probability; {most_frequent}")
        header = ["people \\ model", *LEVELS]
        print(
            table([[right, *(str(found.confusion[right, said]) for said in LEVELS)] for right in LEVELS], header=header)
        )


def _values(text: str) -> list[str]:
    return [value.strip() for value in text.split(",") if value.strip()]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--tokens {text}: is no number; write for example 144,64") from None


def _scale(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(f"--scale {text}: write the lowest and the highest score, as in 1:5")
    return low, high


def _show(found: Agreement, read: RatingsTable, title: str) -> None:
    print(bold(shown(title)))
    low, high = read.scale
    print(dim(shown(f"columns {read.columns[0]!r} and {read.columns[1]!r}, scores out of {low:g} to {high:g}")))
    rows = [
        ["photographs", str(found.n)],
        ["SRCC", str(found.srcc)],
        ["PLCC, logistic fit", str(found.plcc)],
        ["Pearson, as they are", str(found.pearson)],
        ["Kendall's tau", f"{found.kendall:.3f}"],
        ["score minus opinion", f"{found.mean_error:+.2f} points of 10, {found.mean_absolute_error:.2f} absolute"],
    ]
    print(table(rows))
    print(f"\n{bold('Pairs in the right order')}, by how far people's ratings are apart")
    header = ["points of 10", "pairs", "right"]
    print(
        table([[f"{p.low:g} to {p.high:g}", f"{p.n_pairs:,}", _percent(p.share)] for p in found.pairs], header=header)
    )
    print(f"\n{bold('Calibration')}, means of tenths of the photographs")
    print(
        table(
            [[f"{c.score:.2f}", f"{c.opinion:.2f}", str(c.n)] for c in found.calibration],
            header=["score", "people", "n"],
        )
    )
    if found.attributes:
        print(f"\n{bold('Attributes')}, rank correlation with people's ratings")
        print(table([[shown(name), str(value)] for name, value in found.attributes.items()]))


def _percent(share: float) -> str:
    return "-" if share != share else f"{share:.1%}"  # noqa: PLR0124 (NaN)
