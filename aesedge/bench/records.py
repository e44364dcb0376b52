"""Write a result as flat records for programs: CSV and JSON lines.

A field that llama-bench has goes by its name (``test::get_fields`` of tools/llama-bench/llama-bench.cpp) and comes
first, in its order; ours follow. What was not
measured is empty or null; a measured 0 is 0.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.bench.result import Row
from aesedge.bench.tables import gpu_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aesedge.bench.result import Card, Result

_RUN = ("test_time", "bundle", "model_type", "random_weights")
"""What tells which run something belongs to that is no row."""
_NO_ROW = Row(test="", group="load")


def csv_text(result: Result) -> str:
    """Return the rows as CSV, one table as spreadsheets and data frames expect it.

    Objects (``percent_of``, ``parts_s``) are JSON in their field; repetitions are not here. Neither is what is no row:
    see :func:`aesedge.bench.output_formats.left_out`.
    """
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    # Of a row that nothing is known of, for the header: a result without rows has one too.
    table.writerow(_record(result, _NO_ROW))
    for row in result.rows:
        table.writerow(map(_cell, _record(result, row).values()))
    return written.getvalue().rstrip("\n")


def jsonl_text(result: Result) -> str:
    """Return everything that was measured, one object to a line; ``kind`` tells what it is.

    ``row`` has the repetitions too (``samples_ns``, ``samples_ts``); ``against``, ``quality``, ``prediction`` and
    ``kernels`` follow. What holds for all of them (:class:`aesedge.bench.result.Card`) comes first, as ``card``.
    """
    built = msgspec.to_builtins(result)
    lines: list[dict[str, Any]] = [{"kind": "card", **built["card"], "complete": result.complete}]
    for row in result.rows:
        samples = {"samples_ns": row.samples_ns, "samples_ts": row.samples_ts if row.unit else []}
        record = _record(result, row) | {"percent_of": row.percent_of, "parts_s": row.parts_s}
        lines.append({"kind": "row", **record, **samples, "complete": result.complete})
    lines += [{"kind": kind, **_run(result), **record} for kind, record in _others(result)]
    if result.kernels is not None:
        lines.append({"kind": "kernels", **_run(result), "kernels": result.kernels})
    return "\n".join(msgspec.json.encode(line).decode() for line in lines)


def _record(result: Result, row: Row) -> dict[str, Any]:
    """Return a row's fields, in order."""
    card, plan = result.card, result.card.plan
    llm, vision = _file(card, "llm"), _file(card, "vision")
    threads = plan.get("threads_batch") if row.n_prompt and not row.n_gen else plan.get("threads")
    record: dict[str, Any] = {
        "build_commit": commit(card.libraries), "cpu_info": card.hardware.get("cpu"),
        "gpu_info": gpu_names(card), "backends": card.backend,
        "model_filename": llm.get("path", llm.get("name", "")), "model_type": card.model_type,
        "model_size": card.model_size, "model_n_params": card.model_n_params, "n_batch": plan.get("n_batch"),
        "n_ubatch": plan.get("n_ubatch"), "n_threads": threads, "type_k": plan.get("kv_type"),
        "type_v": plan.get("kv_type"), "n_gpu_layers": plan.get("n_gpu_layers"),
        "flash_attn": _cell(plan.get("flash_attention")), "repack": plan.get("repack"), "n_prompt": row.n_prompt,
        "n_gen": row.n_gen, "n_depth": row.n_depth, "test_time": card.started_at,
    }  # fmt: skip
    rated = bool(row.samples_ns and row.unit)
    record |= dict.fromkeys(("avg_ns", "stddev_ns", "avg_ts", "stddev_ts"))
    if row.samples_ns:  # whole nanoseconds, as in llama-bench
        record |= {"avg_ns": round(row.avg_ns), "stddev_ns": round(row.stddev_ns)}
    if rated:
        record |= {"avg_ts": row.avg_ts, "stddev_ts": row.stddev_ts}
    return record | {
        "test": row.test, "test_group": row.group, "rate_unit": row.rate_unit, "n_units": row.n,
        "median_ns": round(row.median_s * 1e9) if row.samples_ns else None,
        "p95_ns": round(row.p95_s * 1e9) if row.samples_ns else None, "n_samples": len(row.samples_ns),
        "n_warm_up": row.n_warm_up, "cache_state": row.cache_state, "n_parallel": row.n_parallel,
        "n_image_tokens": plan.get("n_image_tokens"), "n_threads_batch": plan.get("threads_batch"),
        "n_threads_vision": plan.get("threads_vision"), "vision": plan.get("vision"), "bundle": card.bundle,
        "random_weights": card.random_weights, "n_bytes": row.n_bytes, "watts": row.watts,
        "percent_of": row.percent_of, "parts_s": row.parts_s, "excludes": row.excludes,
        "llm_sha256": llm.get("sha256"), "vision_sha256": vision.get("sha256"), "aesedge": card.aesedge,
        "complete": result.complete,
    }  # fmt: skip


def commit(libraries: Mapping[str, Any]) -> str:
    """Return the commit of llama.cpp, wherever in the libraries it stands, or an empty text."""
    for name, value in libraries.items():
        found = commit(value) if isinstance(value, dict) else str(value or "") if name.endswith("commit") else ""
        if found:
            return found
    return ""


def _file(card: Card, role: str) -> dict[str, Any]:
    return next((file for file in card.files if file.get("role") == role), {})


def _run(result: Result) -> dict[str, Any]:
    card = result.card
    return dict(zip(_RUN, (card.started_at, card.bundle, card.model_type, card.random_weights), strict=True))


def _others(result: Result) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return what was measured that is no row, with its kind."""
    for pair in result.against:
        told = msgspec.to_builtins(pair) | {"ratios": pair.ratios, "ratio": pair.ratio if pair.ratios else None}
        yield "against", told | {"reference": result.reference}
    if result.quality is not None:
        yield "quality", msgspec.to_builtins(result.quality)
    for prediction in result.predictions:
        yield "prediction", msgspec.to_builtins(prediction)


def _cell(value: Any) -> Any:
    """Return a value as CSV holds it: objects as JSON, switches as 0 or 1, what is not there as None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode() if value else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
