"""Text of ``bench``: a result's tables and remarks for a terminal."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from aesedge.bench.kernels import ELSEWHERE, kernel_tables
from aesedge.bench.number_format import (
    binary_size,
    digits,
    parameters,
    rate_text,
    scaled,
    share_text,
    time_text,
    value_text,
)
from aesedge.bench.output_formats import INTERRUPTED, commit
from aesedge.bench.result import RANDOM_WEIGHTS
from aesedge.bench.tables import (
    against_table,
    decode_text,
    disturbing,
    exclusions,
    image_rate,
    machine_text,
    part_name,
    predictions_table,
    quality_text,
)
from aesedge.cli.terminal import bold, dim, table
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Result, Row, RunInfo
    from aesedge.bench.tables import Table

WIDTH = 100
_GROUPS = ("load", "image", "language", "photo", "memory")
_INDENT = "  "
_HEADER = ["test", "rate", "", "median", "p95", "n", "of the ceiling"]
_COUNTS = {
    "n_image_tokens": "image tokens",
    "kv_type": "KV cache",
    "threads_vision": "threads vision",
    "threads_batch": "threads prefill",
    "threads": "threads decode",
    "n_gpu_layers": "layers on the GPU",
}


def result_text(result: Result) -> str:
    """Return a result for a terminal: the card in short, rows by group, what stands beside them, what is excluded."""
    parts = [card_text(result.card)]
    if not result.ok:
        parts.append(bold(INTERRUPTED))
    if result.rows:
        parts.append(rows_text(result.rows, random_weights=result.card.random_weights))
    if result.quality is not None:
        parts.append(_wrapped("quality", quality_text(result.quality)))
    against, predictions = against_table(result), predictions_table(result)
    if against is not None:
        parts.append(f"{bold(f'against {sanitize(result.reference)}')}, in turns\n{_with_notes(against, 'both')}")
    if predictions is not None:
        parts.append(f"{bold('calculated')}, not measured\n{_with_notes(predictions, 'from')}")
    kernels = kernel_tables(result)
    parts += [f"{bold('kernels')}: {title}\n{table(found.rows, header=found.header)}" for title, found in kernels]
    parts.append("\n".join(_remarks(result)))
    return "\n\n".join(part for part in parts if part)


def card_text(card: RunInfo) -> str:
    """Return the facts that all rows share, in short."""
    llama, known = card.libraries.get("llama_cpp", "-"), commit(card.libraries)
    versions = [
        f"llama.cpp {llama}" + (f" ({known})" if known else ""),
        f"ONNX Runtime {card.libraries.get('onnxruntime', '-')}",
        f"aesedge {card.aesedge}",
    ]
    plan = [
        f"{name} {value_text(card.plan[name])}"
        for name in ("gguf", "vision", "repack", "kernels", "flash_attention")
        if name in card.plan
    ]
    plan += [f"{value_text(card.plan[name])} {words}" for name, words in _COUNTS.items() if name in card.plan]
    plan += [f"threads wait: {card.plan['openmp_waiting']}"] if "openmp_waiting" in card.plan else []
    lines = [
        bold(
            sanitize(
                f"{card.bundle}: {card.model_type}, {binary_size(card.model_size)}, {parameters(card.model_n_params)}"
            )
        ),
        bold(f"{RANDOM_WEIGHTS} of shape {sanitize(card.random_weights)}: times hold, what it says means nothing")
        if card.random_weights
        else "",
        _wrapped("machine", machine_text(card, in_short=True)),
        _wrapped("backend", f"{card.backend}; {', '.join(versions)}"),
        _wrapped("settings", ", ".join(plan)),
        _wrapped("recommended", card.recommended) if card.recommended else "",
        _wrapped("decoding", decode_text(card)),
        _wrapped("ceilings", value_text(card.ceilings)) if card.ceilings else "",
        _wrapped("power", card.power),
    ]
    return "\n".join(line for line in lines if line)


def rows_text(rows: Sequence[Row], *, random_weights: str = "") -> str:
    """Return rows group by group, in columns that go through all of them."""
    ordered = sorted(rows, key=lambda row: _GROUPS.index(row.group))
    figures = [rate_text(row) for row in ordered]
    widths = [max(len(figure[i]) for figure in figures) for i in (0, 1)]
    cells = [_cells(row, figure, widths) for row, figure in zip(ordered, figures, strict=True)]
    used = [i for i in range(len(_HEADER)) if i == 0 or any(line[i].strip() for line in cells)]
    header, *lines = table(
        [[line[i] for i in used] for line in cells], header=[_HEADER[i].rjust(widths[0] if i == 1 else 0) for i in used]
    ).splitlines()
    told = [header]
    marked = f" ({RANDOM_WEIGHTS})" if random_weights else ""
    for group, members in groupby(zip(ordered, lines, strict=True), key=lambda pair: pair[0].group):
        told.append(dim(f"{group}{marked}"))
        for row, line in members:
            told.append(line)
            told += [dim(f"{_INDENT * 2}{detail}") for detail in [_detail(row)] if detail]
    return "\n".join(told)


def _cells(row: Row, figure: tuple[str, str], widths: Sequence[int]) -> list[str]:
    rate, deviation = figure
    timed = bool(row.samples_ns)
    return [
        f"{_INDENT}{sanitize(row.test)}",
        rate.rjust(widths[0]) if rate else "",
        f"± {deviation.rjust(widths[1])} {row.rate_unit}" if rate else "",
        time_text(row.median_s) if timed else "" if row.n_bytes is None else scaled(row.n_bytes, "B"),
        time_text(row.p95_s) if timed else "",
        str(len(row.samples_ns)) if timed else "",
        share_text(row.percent_of),
    ]


def _detail(row: Row) -> str:
    """Return what has no column of its own: what a time is made of, image tokens a second, power."""
    parts = [f"{part_name(name)} {time_text(seconds)}" for name, seconds in row.parts_s.items()]
    power = [] if row.watts is None else [f"{digits(row.watts)} W"]
    return ", ".join([*(parts if len(parts) > 1 else []), *filter(None, [image_rate(row)]), *power])


def _remarks(result: Result) -> list[str]:
    """Return what a reader must know before believing a figure."""
    card = result.card
    lines = [_wrapped(f"disturbs: {what}", found) for what, found in disturbing(card)]
    for text, tests in exclusions(result.rows).items():
        lines.append(dim(_wrapped("not in the time of " + ", ".join(tests), text)))
    hidden = [ELSEWHERE] if result.kernels is not None and not kernel_tables(result) else []
    lines += [dim(_wrapped("left out", note)) for note in [*result.notes, *hidden]]
    warm = max((row.n_warm_up for row in result.rows), default=0)
    warmed = f", behind {warm} that {'was' if warm == 1 else 'were'} not timed, if there was time" if warm else ""
    several = f"medians of n repetitions{warmed}; rate: mean ± standard deviation"
    return [*lines, dim(_wrapped("", f"{several}; measured in {time_text(card.took_s)}"))]


def _with_notes(found: Table, name: str) -> str:
    """Return a table whose last column, a sentence, stands below it: each once, with the rows that it is about."""
    notes: dict[str, list[str]] = {}
    for row in found.rows:
        notes.setdefault(row[-1], []).append(row[0])
    several = len(notes) > 1
    below = [
        dim(_wrapped(f"{', '.join(dict.fromkeys(rows))}, {name}" if several else name, text))
        for text, rows in notes.items()
        if text
    ]
    cells = [row[:-1] for row in found.rows]
    return "\n".join([table(cells, header=found.header[:-1]), *below])


def _wrapped(name: str, text: str) -> str:
    """Return a name and its text, further lines indented; longer ones than a terminal is wide are broken."""
    full = sanitize(f"{name}: {text}" if name else text, lines=True)
    return textwrap.fill(full, WIDTH, subsequent_indent=_INDENT * 2, break_long_words=False, break_on_hyphens=False)
