"""The command ``bench compare``: two results side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aesedge.bench.number_format import change_text, digits, interval_text, scaled, time_text
from aesedge.cli.exit_codes import FAILED
from aesedge.cli.options import Printing, with_options
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, table
from aesedge.errors import UsageError
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from aesedge.bench.compare import Comparison, Regression, RowChange, Spread, Trend


Format = Literal["table", "md", "json"]


@with_options(json="Print the comparison as one JSON object.")
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="JSON file of the earlier run.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="JSON file of the later run.")],
    format_: Annotated[Format, typer.Option("--format", help="Format of the comparison.")] = "table",
    regression: Annotated[
        bool,
        typer.Option(
            "--regression",
            help="For CI, on any machines: compare ratios of what was measured in one run, not seconds; exit 1 if one "
            "fell by more than --tolerance and more than chance.",
        ),
    ] = False,
    tolerance: Annotated[str, typer.Option(help="With --regression: how much a ratio may fall.")] = "5%",
    printing: Printing = Printing(),
) -> None:
    """Show what became faster or slower between two runs, by more than chance."""
    from aesedge.bench.compare import compare as compare_results
    from aesedge.bench.compare import regression as compare_ratios
    from aesedge.bench.result import load_result

    lost, form = _share(tolerance), "json" if printing.json else format_
    results = load_result(before), load_result(after)
    if not regression:
        found = compare_results(*results)
        if not found.changes:
            raise UsageError(f"{before} and {after} have no test in common")
        _print(found, form, _comparison_cells(found))
        return
    trends = compare_ratios(*results, tolerance=lost)
    if all(trend.change.low is None for trend in trends.trends):
        why = f"{len(trends.trends)} in common, all of fewer than 3 samples" if trends.trends else "none in common"
        raise UsageError(f"{before} and {after}: no ratio can be compared: {why}")
    _print(trends, form, _regression_cells(trends))
    for trend in trends.fallen:
        print_error(f"regression: {_fall(trend)}")
    if trends.fallen:
        raise typer.Exit(FAILED)


def _share(text: str) -> float:
    """Read the value of ``--tolerance``."""
    match = re.fullmatch(r"\s*(\d{1,2}(?:\.\d+)?)\s*%\s*", text)
    if match is None:
        raise UsageError(f"--tolerance {text!r} is no share below 100 %; write a percentage, e.g. 5%")
    return float(match[1]) / 100


def _print(found: Comparison | Regression, form: str, cells: tuple[list[str], list[list[str]]]) -> None:
    if form == "json":
        print_json(found)
        return
    header, rows = cells
    lacking = {"only in the earlier run": found.only_before, "only in the later run": found.only_after}
    missing = [f"{where}: {', '.join(tests)}" for where, tests in lacking.items() if tests]
    if form == "md":
        from aesedge.bench.output_formats import grid
        from aesedge.bench.tables import Table

        warned = [f"- **differs**: {text}" for text in found.warnings]
        print("\n\n".join(filter(None, ["\n".join(warned), grid(Table(header, rows)), "\n".join(missing)])))
        return
    for text in found.warnings:
        print(bold(f"differs: {sanitize(text)}"))
    print(table(rows, header=header))
    for text in missing:
        print(dim(sanitize(text)))


def _comparison_cells(found: Comparison) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            change.test,
            _amount(change, change.before),
            _amount(change, change.after),
            *_spread(change.speed, change.verdict),
        ]
        for change in found.changes
    ]
    return ["test", "before", "after", "as fast", "low..high", ""], rows


def _regression_cells(found: Regression) -> tuple[list[str], list[list[str]]]:
    rows = [
        [trend.name, _value(trend.before), _value(trend.after), *_spread(trend.change, _word(trend))]
        for trend in found.trends
    ]
    return ["ratio", "before", "after", "change", "low..high", ""], rows


def _word(trend: Trend) -> str:
    if trend.change.low is None:
        return "too few samples"
    return "FELL" if trend.fell else "ok"


def _fall(trend: Trend) -> str:
    spans = [f"{test} {time_text(before)} -> {time_text(after)}" for test, (before, after) in trend.times_s.items()]
    figures = f"{_value(trend.before)} -> {_value(trend.after)}, {trend.change.ratio:.0%} of what it was"
    return "; ".join([f"{trend.name} fell: {figures} (surely {interval_text(*_bounds(trend.change))})", *spans])


def _amount(change: RowChange, value: float) -> str:
    return time_text(value) if change.quantity == "seconds" else scaled(value, "B")


def _value(ratio: float) -> str:
    return digits(ratio)


def _spread(spread: Spread, verdict: str) -> list[str]:
    known = spread.low is not None
    return [change_text(spread.ratio), interval_text(*_bounds(spread)) if known else "", verdict]


def _bounds(spread: Spread) -> tuple[float, float]:
    low, high = spread.low, spread.high
    return (spread.ratio, spread.ratio) if low is None or high is None else (low, high)
