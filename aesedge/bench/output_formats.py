"""Write a result as Markdown, CSV, JSON or JSON lines.

In CSV and JSON lines a field that llama-bench has goes by its name (``test::get_fields`` of
tools/llama-bench/llama-bench.cpp) and comes first, in its order; ours follow.
What was not measured is empty or null; a measured 0 is 0.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.bench.kernels import kernel_tables
from aesedge.bench.number_format import binary_size, digits, parameters, rate_text, scaled, share_text
from aesedge.bench.result import Row, result_json
from aesedge.bench.tables import (
    Table,
    against_table,
    card_facts,
    exclusions,
    gpu_names,
    image_rate,
    model_text,
    parts_table,
    predictions_table,
    quality_text,
    title_text,
)
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aesedge.bench.result import Result, RunInfo

FileFormat = Literal["md", "csv", "json", "jsonl"]
Format = Literal["table", FileFormat]
"""What users can ask for; the command line draws ``table``."""
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
    """Return what of a result a form has no place for, as a note for the user; empty where nothing is lost."""
    there = {"quality": result.quality, "against": result.against, "predictions": result.predictions}
    lacks = [name for name, found in (there | {"kernels": result.kernels}).items() if found and format == "csv"]
    return f"the form {format} has no room for {', '.join(lacks)}; json has" if lacks else ""


def markdown(result: Result) -> str:
    """Return a result as Markdown: what holds for all rows, llama-bench's table with our columns, and the rest."""
    parts = [f"# {_escaped(title_text(result))}", "" if result.ok else f"**{INTERRUPTED}.**"]
    parts.append("\n".join(f"- **{_escaped(name)}**: {_escaped(text)}" for name, text in card_facts(result.card)))
    if result.rows:
        parts += [grid(_rows_table(result)), _footnotes(result.rows)]
    against = f"Against {_escaped(result.reference or 'the reference')}, in turns:"
    tables = [
        ("Medians of what the times are made of:", parts_table(result.rows)),
        (against, against_table(result)),
        ("Calculated, not measured, for a new photo:", predictions_table(result)),
        *((f"Kernels: {title}", found) for title, found in kernel_tables(result)),
    ]
    shown = [[title, grid(found)] if found else [] for title, found in tables]
    parts += shown[0]
    if result.quality is not None:
        parts.append(f"**Quality**: {_escaped(quality_text(result.quality))}")
    parts += [part for both in shown[1:] for part in both]
    parts.append("\n".join(f"- left out: {_escaped(note)}" for note in result.notes))
    return "\n\n".join(part for part in parts if part)


def _rows_table(result: Result) -> Table:
    """Return llama-bench's columns, then those of ours that a row has something for."""
    card, notes = result.card, {text: str(i) for i, text in enumerate(exclusions(result.rows), 1)}
    on_gpu = "CPU" not in card.backend
    model = {
        "model": model_text(card),
        "size": binary_size(card.model_size),
        "params": parameters(card.model_n_params),
        "backend": card.backend,
    } | ({"ngl": str(card.plan.get("n_gpu_layers", ""))} if on_gpu else {})
    lines = [
        model | {"threads": _threads(result, row), "test": row.test} | _our_cells(row, notes.get(row.excludes))
        for row in result.rows
    ]
    always = {*model, "threads", "test", "t/s"}
    header = [name for name in lines[0] if name in always or any(line[name] for line in lines)]
    return Table(header, [[line[name] for name in header] for line in lines])


def _our_cells(row: Row, note: str | None) -> dict[str, str]:
    timed, also = bool(row.samples_ns), image_rate(row)
    rate = " ± ".join(rate_text(row)) if timed and row.unit else ""
    is_tokens = row.rate_unit == "t/s"
    return {
        "t/s": rate if is_tokens else "",
        "other rate": f"{rate} {row.rate_unit}{also and f', {also}'}" if rate and not is_tokens else "",
        "median ms": _ms(row.median_s) if timed else "",
        "p95 ms": _ms(row.p95_s) if timed else "",
        "reps": str(len(row.samples_ns)) if timed else "",
        "n": f"{row.n:.4g}" if timed and row.unit else "",
        "unit": row.unit if timed else "",
        "% of ceiling": share_text(row.percent_of),
        "watts": "" if row.watts is None else digits(row.watts),
        "cache": row.cache_state or "",
        "memory": "" if row.n_bytes is None else scaled(row.n_bytes, "B"),
        "not in the time": f"[{note}]" if note else "",
    }


def _threads(result: Result, row: Row) -> str:
    """Return the threads of what a row runs; all numbers where it runs several things with different ones."""
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
    warm = sorted({row.n_warm_up for row in rows if row.samples_ns})
    lines = [f"- [{i}] not in the time: {_escaped(text)}" for i, text in enumerate(exclusions(rows), 1)]
    if warm:
        counts = f"{warm[0]}" if len(warm) == 1 else f"{warm[0]} to {warm[-1]}"
        lines.append(f"- before the repetitions of a row: {counts} that were not timed (warm-up)")
    return "\n".join(lines)


def grid(table: Table) -> str:
    """Return a table as GitHub's Markdown, padded so that it can be read unrendered too."""
    header, cells = list(map(_escaped, table.header)), [list(map(_escaped, row)) for row in table.rows]
    widths = [max(3, *map(len, column)) for column in zip(header, *cells, strict=True)]
    left = [name in _LEFT or not any(row[i][:1].isdigit() for row in cells) for i, name in enumerate(header)]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(row, widths, left, strict=True))
        return f"| {' | '.join(padded)} |"

    rules = ["-" * w if is_left else "-" * (w - 1) + ":" for w, is_left in zip(widths, left, strict=True)]
    return "\n".join([line(header), f"| {' | '.join(rules)} |", *map(line, cells)])


def _escaped(text: str) -> str:
    """Escape what Markdown would read as its own signs, or as a further column."""
    return sanitize(text, lines=True).translate(_ESCAPED)


def csv_text(result: Result) -> str:
    """Return the rows as CSV: one table, as spreadsheets and data frames expect it, with objects as JSON."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(_record(result, Row(test="", group="load")))  # a result without rows has a header too
    for row in result.rows:
        table.writerow(map(_cell, _record(result, row).values()))
    return written.getvalue().rstrip("\n")


def jsonl_text(result: Result) -> str:
    """Return everything that was measured, one object to a line; ``kind`` tells what it is.

    ``card`` holds for all of them; a ``row`` has its repetitions too; ``against``, ``quality``, ``prediction`` and
    ``kernels`` follow.
    """
    lines: list[dict[str, Any]] = [{"kind": "card", **msgspec.to_builtins(result.card), "ok": result.ok}]
    for row in result.rows:
        samples = {"samples_ns": row.samples_ns, "samples_ts": row.samples_ts if row.unit else []}
        lines.append({"kind": "row", **_record(result, row), **samples, "ok": result.ok})
    card = result.card
    run = {
        "test_time": card.started_at,
        "bundle": card.bundle,
        "model_type": card.model_type,
        "random_weights": card.random_weights,
    }
    lines += [{"kind": kind, **run, **record} for kind, record in _other_records(result)]
    return "\n".join(msgspec.json.encode(line).decode() for line in lines)


def _other_records(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    for pair in result.against:
        told = msgspec.to_builtins(pair) | {"ratios": pair.ratios, "ratio": pair.ratio if pair.ratios else None}
        yield "against", told | {"reference": result.reference}
    if result.quality is not None:
        yield "quality", msgspec.to_builtins(result.quality)
    for prediction in result.predictions:
        yield "prediction", msgspec.to_builtins(prediction)
    if result.kernels is not None:
        yield "kernels", {"kernels": result.kernels}


def _record(result: Result, row: Row) -> dict[str, Any]:
    """Return a row's fields, in order."""
    card, plan, timed = result.card, result.card.plan, bool(row.samples_ns)
    llm, vision = _file(card, "llm"), _file(card, "vision")
    rated = timed and bool(row.unit)
    return {
        "build_commit": commit(card.libraries), "cpu_info": card.hardware.get("cpu"),
        "gpu_info": gpu_names(card), "backends": card.backend,
        "model_filename": llm.get("path", llm.get("name", "")), "model_type": card.model_type,
        "model_size": card.model_size, "model_n_params": card.model_n_params, "n_batch": plan.get("n_batch"),
        "n_ubatch": plan.get("n_ubatch"),
        "n_threads": plan.get("threads_batch") if row.n_prompt and not row.n_gen else plan.get("threads"),
        "type_k": plan.get("kv_type"), "type_v": plan.get("kv_type"), "n_gpu_layers": plan.get("n_gpu_layers"),
        "flash_attn": _cell(plan.get("flash_attention")), "repack": plan.get("repack"), "n_prompt": row.n_prompt,
        "n_gen": row.n_gen, "n_depth": row.n_depth, "test_time": card.started_at,
        "avg_ns": round(row.avg_ns) if timed else None,  # whole nanoseconds, as in llama-bench
        "stddev_ns": round(row.stddev_ns) if timed else None,
        "avg_ts": row.avg_ts if rated else None, "stddev_ts": row.stddev_ts if rated else None,
        "test": row.test, "test_group": row.group, "rate_unit": row.rate_unit, "n_units": row.n,
        "median_ns": round(row.median_s * 1e9) if timed else None,
        "p95_ns": round(row.p95_s * 1e9) if timed else None, "n_samples": len(row.samples_ns),
        "n_warm_up": row.n_warm_up, "cache_state": row.cache_state, "n_parallel": row.n_parallel,
        "n_image_tokens": plan.get("n_image_tokens"), "n_threads_batch": plan.get("threads_batch"),
        "n_threads_vision": plan.get("threads_vision"), "vision": plan.get("vision"), "bundle": card.bundle,
        "random_weights": card.random_weights, "n_bytes": row.n_bytes, "watts": row.watts,
        "percent_of": row.percent_of, "parts_s": row.parts_s, "excludes": row.excludes,
        "llm_sha256": llm.get("sha256"), "vision_sha256": vision.get("sha256"), "aesedge": card.aesedge,
        "ok": result.ok,
    }  # fmt: skip


def commit(libraries: Mapping[str, Any]) -> str:
    """Return the commit of llama.cpp, wherever in the libraries it stands; empty where it is unknown."""
    for name, value in libraries.items():
        found = commit(value) if isinstance(value, dict) else str(value or "") if name.endswith("commit") else ""
        if found:
            return found
    return ""


def _file(card: RunInfo, role: str) -> dict[str, Any]:
    return next((file for file in card.files if file.get("role") == role), {})


def _cell(value: Any) -> Any:
    """Return a value as CSV holds it: objects as JSON, switches as 0 or 1, nothing for what is unknown."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode() if value else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
