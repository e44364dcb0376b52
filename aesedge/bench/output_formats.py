"""A result in the forms that other programs take: Markdown for people's notes, and files for programs.

Knows how each form is written, not what was measured; what a terminal shows is the business of the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aesedge.bench.kernels import kernel_tables
from aesedge.bench.number_format import binary_size, digits, parameters, rate_text, scaled, share_text
from aesedge.bench.records import csv_text, jsonl_text
from aesedge.bench.result import result_json
from aesedge.bench.tables import (
    Table,
    against_table,
    card_facts,
    exclusions,
    image_rate,
    model_text,
    parts_table,
    predictions_table,
    quality_text,
    title_text,
)
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Result, Row

FileFormat = Literal["md", "csv", "json", "jsonl"]
Format = Literal["table", FileFormat]
"""What users can ask for; ``table`` is for terminals, and drawn by the command line."""
INTERRUPTED = "incomplete: interrupted; what had been measured by then"
_LEFT = {"model", "backend", "test", "cache", "% of ceiling", "other rate", "not in the time"}
_ESCAPED = {ord(sign): f"\\{sign}" for sign in "\\|*`<"} | {ord("\n"): " "}


def render(result: Result, format: FileFormat) -> str:  # noqa: A002 (as the option is called)
    """Return a result in a form, without a newline at the end.

    ``json`` is the whole result, and can be read again; ``jsonl`` holds everything that was measured, row by row;
    ``csv`` is the table of the rows alone.
    """
    forms = {"md": markdown, "csv": csv_text, "json": result_json, "jsonl": jsonl_text}
    return forms[format](result)


def left_out(result: Result, format: Format) -> str:  # noqa: A002
    """Return what of a result a form has no place for, as a remark for the user; empty where nothing is lost."""
    there = {"quality": result.quality, "against": result.against, "predictions": result.predictions}
    lacks = [name for name, found in (there | {"kernels": result.kernels}).items() if found and format == "csv"]
    return f"the form {format} has no room for {', '.join(lacks)}; json has" if lacks else ""


def markdown(result: Result) -> str:
    """Return a result as Markdown: the card, llama-bench's table with our columns behind, and what stands beside it."""
    parts = [f"# {_escaped(title_text(result))}"]
    if not result.complete:
        parts.append(f"**{INTERRUPTED}.**")
    parts.append("\n".join(f"- **{_escaped(name)}**: {_escaped(text)}" for name, text in card_facts(result.card)))
    if result.rows:
        parts += [grid(_rows_table(result)), _footnotes(result.rows)]
    made_of = parts_table(result.rows)
    if made_of:
        parts += ["Medians of what the times are made of:", grid(made_of)]
    if result.quality is not None:
        parts.append(f"**Quality**: {_escaped(quality_text(result.quality))}")
    against = against_table(result)
    if against:
        parts += [f"Against {_escaped(result.reference or 'the reference')}, in turns:", grid(against)]
    predictions = predictions_table(result)
    if predictions:
        parts += ["Calculated, not measured, for a new photo:", grid(predictions)]
    parts += [part for title, found in kernel_tables(result) for part in (f"Kernels: {title}", grid(found))]
    if result.notes:
        parts.append("\n".join(f"- left out: {_escaped(note)}" for note in result.notes))
    return "\n\n".join(part for part in parts if part)


def _rows_table(result: Result) -> Table:
    """Return llama-bench's columns, then ours; of ours only those that a row has something for."""
    card, notes = result.card, {text: str(i) for i, text in enumerate(exclusions(result.rows), 1)}
    on_gpu = "CPU" not in card.backend
    fixed = ["model", "size", "params", "backend", *(["ngl"] if on_gpu else []), "threads", "test"]
    ours = [
        "t/s", "other rate", "median ms", "p95 ms", "reps", "n", "unit", "% of ceiling", "watts", "cache", "memory",
        "not in the time",
    ]  # fmt: skip
    model = [model_text(card), binary_size(card.model_size), parameters(card.model_n_params), card.backend]
    model += [str(card.plan.get("n_gpu_layers", ""))] if on_gpu else []
    cells = [
        [*model, _threads(result, row), row.test, *_our_cells(row, notes.get(row.excludes))] for row in result.rows
    ]
    kept = [i for i in range(len(fixed + ours)) if i <= len(fixed) or any(line[i] for line in cells)]
    return Table([(fixed + ours)[i] for i in kept], [[line[i] for i in kept] for line in cells])


def _our_cells(row: Row, note: str | None) -> list[str]:
    timed = bool(row.samples_ns)
    also = image_rate(row)
    rate = " ± ".join(rate_text(row)) if timed and row.unit else ""
    told = f"{rate} {row.rate_unit}{also and f', {also}'}" if rate and row.rate_unit != "t/s" else ""
    return [
        rate if rate and not told else "",
        told,
        _ms(row.median_s) if timed else "",
        _ms(row.p95_s) if timed else "",
        str(len(row.samples_ns)) if timed else "",
        f"{row.n:.4g}" if timed and row.unit else "",
        row.unit if timed else "",
        share_text(row.percent_of),
        "" if row.watts is None else digits(row.watts),
        row.cache_state or "",
        "" if row.n_bytes is None else scaled(row.n_bytes, "B"),
        f"[{note}]" if note else "",
    ]


def _threads(result: Result, row: Row) -> str:
    """Return the threads of what a row runs; all of them where it runs several things with different numbers."""
    plan = result.card.plan
    names = ["threads_vision", "threads_batch", "threads"]
    if row.group == "image" and row.n_prompt:
        names = names[:1]
    elif row.group in {"image", "memory"}:
        return ""
    elif row.group == "language":
        names = [*(["threads_batch"] if row.n_prompt else []), *(["threads"] if row.n_gen else [])]
    found = [str(plan[name]) for name in names if plan.get(name) is not None]
    return found[0] if len(set(found)) == 1 else "/".join(found)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds >= 1 else digits(seconds * 1e3, 4)


def _footnotes(rows: Sequence[Row]) -> str:
    found = exclusions(rows)
    warm = sorted({row.n_warm_up for row in rows if row.samples_ns})
    lines = [f"- [{i}] not in the time: {_escaped(text)}" for i, text in enumerate(found, 1)]
    if warm:
        counts = f"{warm[0]}" if len(warm) == 1 else f"{warm[0]} to {warm[-1]}"
        lines.append(f"- before the repetitions of a row: {counts} that were not timed (warm-up)")
    return "\n".join(lines)


def grid(table: Table) -> str:
    """Return a table as GitHub's Markdown, padded so that it can be read unrendered too."""
    header, cells = list(map(_escaped, table.header)), [list(map(_escaped, row)) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    left = [name in _LEFT or not any(row[i][:1].isdigit() for row in cells) for i, name in enumerate(header)]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(row, widths, left, strict=True))
        return f"| {' | '.join(padded)} |"

    rules = (
        "-" * max(3, w) if is_left else "-" * (max(3, w) - 1) + ":" for w, is_left in zip(widths, left, strict=True)
    )
    return "\n".join([line(header), f"| {' | '.join(rules)} |", *map(line, cells)])


def _escaped(text: str) -> str:
    """Return text in which Markdown finds no signs of its own, and a table no further column."""
    return sanitize(text, lines=True).translate(_ESCAPED)
