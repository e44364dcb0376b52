"""The command ``eval compare``: the same photographs or questions under several settings of a bundle."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from aesedge.bundle.bundle import open_bundle, replace_manifest
from aesedge.cli.comparison_text import settings_text
from aesedge.cli.eval_inputs import Problems, ReportFile, TableOptions
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.options import Loading, Printing, with_options
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import dim, shown, status
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from aesedge.bundle.fidelity import Comparison

Out = Annotated[
    Path | None, typer.Option(help="A folder for every result; a comparison that was stopped goes on there.")
]


@with_options(json="Print every setting and the recommended one as one JSON object.")
def compare(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Rated photographs, as for eval ratings; or AesBench's questions.")
    ],
    types: Annotated[
        str, typer.Option(help="Quantization types, with commas between.", show_default="the bundle's")
    ] = "",
    precisions: Annotated[
        str, typer.Option(help="Precisions of the vision graph.", show_default="the chosen one")
    ] = "",
    tokens: Annotated[str, typer.Option(help="Numbers of image tokens.", show_default="all of them")] = "",
    kv_types: Annotated[str, typer.Option(help="Types of the KV cache.", show_default="the chosen one")] = "",
    options: TableOptions = TableOptions(),
    out: Out = None,
    report: ReportFile = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the table and the recommended setting into the bundle's manifest.")
    ] = False,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Compare settings of a bundle with people: every combination of the values that are given.

    The first value of each option makes the reference. On ratings, a setting loses nothing measurable where the 95 %
    interval of the change of its rank correlation reaches 0; on questions, where McNemar's test finds no loss of right
    answers (p < 0.05), by the texts or by the likeliest letters.
    """
    with imports_of_extra("eval", "eval"):
        import scipy  # noqa: F401

        from aesedge.eval.aesbench import is_aesbench, read_aesbench
        from aesedge.eval.compare import all_settings, compare_answers, compare_ratings
        from aesedge.eval.recommendation import with_provenance
        from aesedge.eval.report import save_report
    bundle = open_bundle(loading.bundle)
    settings = all_settings(
        dataclasses.replace(loading.options, cache="0"),
        gguf=_values(types),
        vision=_values(precisions),
        image_tokens=[_whole(value) for value in _values(tokens)],
        kv_type=_values(kv_types),
    )
    if is_aesbench(data):
        benchmark = read_aesbench(data, options.images)
        path, problems = benchmark.path, Problems(benchmark.problems, printing)
        with status(f"asking under {len(settings)} settings", quiet=printing.quiet) as show:
            found = compare_answers(bundle, settings, benchmark, out, problems.add, show)
    else:
        read = options.read(data)
        path, problems = read.path, Problems(read.problems, printing)
        settings = [dataclasses.replace(one, purpose="score") for one in settings]
        with status(f"scoring {len(read.photos)} photos under {len(settings)} settings", quiet=printing.quiet) as show:
            found = compare_ratings(bundle, settings, read.photos, out, problems.add, show)
    text = settings_text(found)
    if printing.json:
        print_json(_json(data, found))
    else:
        print(text)
    if report is not None:
        files = [{"bundle": bundle.name, **{f.path: f"SHA-256 `{f.sha256}`" for f in bundle.manifest.files}}]
        heading = f"Settings of {bundle.name} on {path.name}"
        save_report(report, title=heading, command=sys.argv[1:], data=path, settings=files, text=text)
    if write:
        now = open_bundle(bundle.folder)  # another command may have written into it meanwhile
        fidelity = msgspec.structs.replace(now.manifest.fidelity, comparison=with_provenance(found, bundle, path))
        replace_manifest(now, msgspec.structs.replace(now.manifest, fidelity=fidelity))
        if not printing.quiet:
            print(dim(shown(f"written into {bundle.folder / 'manifest.json'}")), file=sys.stderr)
    problems.exit_if_any()


def _json(data: Path, found: Comparison) -> dict[str, Any]:
    rows = [{"name": setting.name, **msgspec.to_builtins(setting)} for setting in found.settings]
    best = found.best
    return {
        "data": str(data), "measure": found.measure, "n": found.n, "settings": rows,
        "recommended": best.name if best else None,
    }  # fmt: skip


def _values(text: str) -> list[str]:
    return [value.strip() for value in text.split(",") if value.strip()]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--tokens {text}: is no number; write for example 144,64") from None
