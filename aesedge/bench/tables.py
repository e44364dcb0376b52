"""The tables and sentences of a result, for terminals and Markdown alike."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from aesedge.bench.number_format import (
    binary_size,
    change_text,
    digits,
    interval_text,
    parameters,
    scaled,
    time_text,
    value_text,
    words,
)
from aesedge.bench.result import RANDOM_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.bench.result import Quality, Result, Row, RunInfo


class Table(NamedTuple):
    """A header, and rows of as many cells."""

    header: list[str]
    rows: list[list[str]]


def model_text(card: RunInfo) -> str:
    """Return the model's type; it stands in every row, so random weights are named there."""
    return f"{card.model_type} ({RANDOM_WEIGHTS})" if card.random_weights else card.model_type


def title_text(result: Result) -> str:
    """Return a result's heading."""
    card = result.card
    unlike = f", {RANDOM_WEIGHTS} of shape {card.random_weights}" if card.random_weights else ""
    return f"{card.bundle}: {card.model_type}{unlike}, on {machine_name(card)}"


def gpu_names(card: RunInfo) -> str:
    """Return the names of the machine's GPUs; empty where it has none."""
    gpus = card.hardware.get("gpus") or []
    return ", ".join(str(gpu.get("name", "")) if isinstance(gpu, dict) else str(gpu) for gpu in gpus)


def machine_name(card: RunInfo) -> str:
    """Return the machine's GPUs where the model runs on them, else its processor."""
    on_gpu = gpu_names(card) if "CPU" not in card.backend else ""
    return on_gpu or str(card.hardware.get("cpu") or card.backend)


def machine_text(card: RunInfo, *, in_short: bool = False) -> str:
    """Return a description of the machine; in short without instruction sets and free memory."""
    told = dict(card.hardware)
    cores = [told.pop(name, None) for name in ("n_physical", "n_logical", "n_usable")]
    known = [
        told.pop("cpu", ""),
        "/".join(str(n) for n in dict.fromkeys(cores) if n is not None) + " cores" if any(cores) else "",
        f"{scaled(told.pop('ram_bytes'), 'B')} RAM" if "ram_bytes" in told else "",
        gpu_names(card) if in_short else "",
        f"{told.pop('system', '')} {told.pop('architecture', '')}".strip(),
        "virtual machine" if told.pop("is_virtual", None) else "",
        "" if in_short else value_text(told),
    ]
    return ", ".join(str(text) for text in known if text not in {"", "-"})


def card_facts(card: RunInfo) -> list[tuple[str, str]]:
    """Return what holds for every row, by name; what is unknown is left out."""
    shape = f": {RANDOM_WEIGHTS} of shape {card.random_weights}" if card.random_weights else ""
    settings = (f"{name}={value_text(value)}" for name, value in card.plan.items() if value is not None)
    facts = [
        ("measured", f"{card.started_at}, in {time_text(card.took_s)}, by aesedge {card.aesedge}"),
        ("machine", machine_text(card)),
        ("backend", card.backend),
        ("libraries", value_text(card.libraries)),
        ("bundle", card.bundle + shape),
        *((f"file {file.get('role', '')} {file.get('type', '')}".strip(), _file_text(file)) for file in card.files),
        ("model", f"{model_text(card)}, {binary_size(card.model_size)}, {parameters(card.model_n_params)} parameters"),
        ("a decoded token", decode_text(card)),
        ("a prefilled token", f"{scaled(2 * card.macs_per_token, 'FLOP')} in matrix products, without attention"),
        ("settings", " ".join(settings)),
        ("recommended", card.recommended),
        *(("photo", _photo_text(photo)) for photo in card.photos),
        ("ceilings", value_text(card.ceilings)),
        ("power", card.power),
        ("repetitions", f"{card.repetitions} of each row, more of short ones; {time_text(card.seconds)} for all rows"),
        *((f"disturbs: {words(what)}", found) for what, found in disturbing(card)),
    ]
    return [(name, text) for name, text in facts if text not in {"", "-"}]


def decode_text(card: RunInfo) -> str:
    """Return what decoding a token reads."""
    kv = scaled(card.kv_bytes_per_position, "B")
    return f"reads {scaled(card.bytes_per_token, 'B')} of weights, and {kv} of the KV cache for each position before it"


def disturbing(card: RunInfo) -> list[tuple[str, str]]:
    """Return what makes figures vary more or come out slower than this machine can do."""
    told = [found for found in card.disturbances if found.get("disturbs", True)]
    return [(str(found.get("what", "")), str(found.get("found") or value_text(found))) for found in told]


def _file_text(file: dict[str, Any]) -> str:
    told = [value_text(value, key) for key, value in file.items() if key not in {"role", "type", "bytes", "sha256"}]
    sized = scaled(file["bytes"], "B") if isinstance(file.get("bytes"), int) else ""
    return ", ".join(filter(None, [*told, sized, _sha256_text(file)]))


def _photo_text(photo: dict[str, Any]) -> str:
    width, height = photo.get("width"), photo.get("height")
    size = f"{width}x{height}" if width and height else ""
    return ", ".join(filter(None, [str(photo.get("name", "")), size, _sha256_text(photo)]))


def _sha256_text(file: dict[str, Any]) -> str:
    return f"SHA-256 {str(file['sha256'])[:12]}" if file.get("sha256") else ""


def image_rate(row: Row) -> str:
    """Return the image tokens a second of a vision tower; empty for other rows."""
    if row.group != "image" or not row.n_prompt or not row.samples_ns:
        return ""
    return f"{digits(row.n_prompt * row.n / row.median_s)} image t/s" if row.median_s else ""


def exclusions(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return what is not in the times, each with the tests that it is not in."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.excludes:
            found.setdefault(row.excludes, []).append(row.test)
    return found


def parts_table(rows: Iterable[Row]) -> Table | None:
    """Return the parts of rows' times, or None where no row has any."""
    made = [row for row in rows if row.parts_s]
    names = list(dict.fromkeys(name for row in made for name in row.parts_s))
    cells = [[row.test, *(time_text(row.parts_s[n]) if n in row.parts_s else "" for n in names)] for row in made]
    return Table(["test", *map(part_name, names)], cells) if made else None


def part_name(name: str) -> str:
    """Return the words for a part of a time: ``decode_image_s`` is ``decode image``."""
    return words(name.removesuffix("_s"))


def quality_text(quality: Quality) -> str:
    """Return in one sentence what the speed costs."""
    if not quality.n_photos:  # its zeros were not measured
        return f"{quality.setting}: {quality.note or 'not measured'}"
    one = "photo" if quality.n_photos == 1 else "photos"
    note = f"; {quality.note}" if quality.note else ""
    return (
        f"{quality.setting} against {quality.reference}: scores move {quality.score_drift:.3f} of 10 points on average "
        f"(worst photo {quality.worst_score_drift:.3f}), NLL {quality.nll_change:+.4f} nats a token, on "
        f"{quality.n_photos} {one}{note}"
    )


def against_table(result: Result) -> Table | None:
    """Return how many times as fast we are as the reference, with the range of the pairs."""
    cells = []
    for found in result.against:
        figures = ["", "", "", "", "0"]  # interrupted before the first pair was whole
        if found.ratios:
            sides = [time_text(median(side) / 1e9) for side in (found.ours_ns, found.theirs_ns)]
            bounds = interval_text(min(found.ratios), max(found.ratios))
            figures = [*sides, change_text(found.ratio), bounds, str(len(found.ratios))]
        cells.append([found.test, *figures, found.what])
    return Table(["test", "ours", "theirs", "as fast", "low..high", "turns", "what"], cells) if cells else None


def predictions_table(result: Result) -> Table | None:
    """Return what other types and numbers of image tokens would take, or None where nothing was calculated."""
    lengths = list(dict.fromkeys(p.n_gen for p in result.predictions))
    told = len(lengths) > 1
    cells = [
        [p.gguf, p.vision, str(p.n_image_tokens), time_text(p.score_s), time_text(p.critique_s)]
        + ([str(p.n_gen)] if told else [])
        + [p.basis]
        for p in result.predictions
    ]
    critique = "critique" if told else f"critique of {lengths[0]} tokens" if lengths else ""
    header = ["gguf", "vision", "image tokens", "score", critique, *(["tokens"] if told else []), "calculated from"]
    return Table(header, cells) if cells else None
