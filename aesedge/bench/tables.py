"""What a result says, as the cells of its tables; knows neither Markdown nor terminals, and measures nothing."""

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

    from aesedge.bench.result import Against, Card, Quality, Result, Row

_SHORT = 12


class Table(NamedTuple):
    """A header and its rows, of as many cells each."""

    header: list[str]
    rows: list[list[str]]


def model_text(card: Card) -> str:
    """Return what was measured, as it stands in every row: nobody shall take random weights for a model."""
    return f"{card.model_type} ({RANDOM_WEIGHTS})" if card.random_weights else card.model_type


def title_text(result: Result) -> str:
    """Return a result's heading."""
    card = result.card
    unlike = f", {RANDOM_WEIGHTS} of shape {card.random_weights}" if card.random_weights else ""
    return f"{card.bundle}: {card.model_type}{unlike}, on {machine_name(card)}"


def gpu_names(card: Card) -> str:
    """Return the machine's GPUs by name; empty where it has none."""
    gpus = card.hardware.get("gpus") or []
    return ", ".join(str(gpu.get("name", "")) if isinstance(gpu, dict) else str(gpu) for gpu in gpus)


def machine_name(card: Card) -> str:
    """Return the machine's GPUs where the model runs on them, else its processor."""
    on_gpu = gpu_names(card) if "CPU" not in card.backend else ""
    return on_gpu or str(card.hardware.get("cpu") or card.backend)


def machine_text(card: Card, *, in_short: bool = False) -> str:
    """Return what the machine is; in short without instruction sets and what is free."""
    told = dict(card.hardware)
    cores = [told.pop(name, None) for name in ("n_physical", "n_logical", "n_usable")]
    known = [
        told.pop("cpu", ""),
        "/".join(str(n) for n in dict.fromkeys(cores) if n is not None) + " cores" if any(cores) else "",
        f"{scaled(told.pop('ram_bytes'), 'B')} RAM" if "ram_bytes" in told else "",
        gpu_names(card) if in_short else "",
        f"{told.pop('system', '')} {told.pop('architecture', '')}".strip(),
        "virtual machine" if told.pop("is_virtual", None) else "",
    ]
    rest = "" if in_short else value_text(told)
    return ", ".join(str(text) for text in [*known, rest] if text not in {"", "-"})


def settings_text(card: Card) -> str:
    """Return the plan as its fields and values: ``n_ubatch=256 kv_type=f16``."""
    return " ".join(f"{name}={value_text(value)}" for name, value in card.plan.items() if value is not None)


def card_facts(card: Card) -> list[tuple[str, str]]:
    """Return what holds for every row, name by name; what is not known is left out."""
    facts = [
        ("measured", f"{card.started_at}, in {time_text(card.took_s)}, by aesedge {card.aesedge}"),
        ("machine", machine_text(card)),
        ("backend", card.backend),
        ("libraries", value_text(card.libraries)),
        (
            "bundle",
            f"{card.bundle}: {RANDOM_WEIGHTS} of shape {card.random_weights}" if card.random_weights else card.bundle,
        ),
        *((f"file {_role(file)}", _file_text(file)) for file in card.files),
        ("model", f"{model_text(card)}, {binary_size(card.model_size)}, {parameters(card.model_n_params)} parameters"),
        ("a decoded token", decode_text(card)),
        ("a prefilled token", f"{scaled(2 * card.macs_per_token, 'FLOP')} in matrix products, without attention"),
        ("settings", settings_text(card)),
        *(("photo", _photo_text(photo)) for photo in card.photos),
        ("ceilings", value_text(card.ceilings)),
        ("power", card.power),
        ("repetitions", f"{card.repetitions} of each row, more of short ones; {time_text(card.seconds)} for all rows"),
        *((f"disturbs: {words(what)}", found) for what, found in disturbing(card)),
    ]
    return [(name, text) for name, text in facts if text not in {"", "-"}]


def decode_text(card: Card) -> str:
    """Return what decoding a token reads."""
    kv = scaled(card.kv_bytes_per_position, "B")
    return f"reads {scaled(card.bytes_per_token, 'B')} of weights, and {kv} of the KV cache for each position before it"


def disturbing(card: Card) -> list[tuple[str, str]]:
    """Return what makes figures vary more or come out slower than this machine can do; empty where nothing does."""
    told = [found for found in card.disturbances if found.get("disturbs", True)]
    return [(str(found.get("what", "")), str(found.get("found") or value_text(found))) for found in told]


def _role(file: dict[str, Any]) -> str:
    return f"{file.get('role', '')} {file.get('type', '')}".strip()


def _file_text(file: dict[str, Any]) -> str:
    told = {key: value for key, value in file.items() if key not in {"role", "type", "bytes", "sha256"}}
    size, sha256 = file.get("bytes"), str(file.get("sha256", ""))[:_SHORT]
    sized = scaled(size, "B") if isinstance(size, int) else ""
    parts = [*(value_text(value, name) for name, value in told.items()), sized, sha256 and f"SHA-256 {sha256}"]
    return ", ".join(part for part in parts if part)


def _photo_text(photo: dict[str, Any]) -> str:
    told = dict(photo)
    width, height = told.pop("width", None), told.pop("height", None)
    sides = told.pop("size", None) or ([width, height] if width and height else [])
    shape = "x".join(map(str, sides)) if isinstance(sides, list | tuple) else str(sides)
    sha256 = str(told.pop("sha256", ""))[:_SHORT]
    named = [str(told.pop("name", "")), shape, sha256 and f"SHA-256 {sha256}", value_text(told)]
    return ", ".join(part for part in named if part not in {"", "-"})


def image_rate(row: Row) -> str:
    """Return the image tokens a second of a vision tower, or an empty text for other rows."""
    if row.group != "image" or not row.n_prompt or not row.samples_ns:
        return ""
    return f"{digits(row.n_prompt * row.n / row.median_s)} image t/s" if row.median_s else ""


def exclusions(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return what is not in the times, each once, with the tests that it is not in."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.excludes:
            found.setdefault(row.excludes, []).append(row.test)
    return found


def parts_table(rows: Iterable[Row]) -> Table | None:
    """Return what the time of rows is made of, or None where none tells."""
    made = [row for row in rows if row.parts_s]
    names = list(dict.fromkeys(name for row in made for name in row.parts_s))
    cells = [
        [row.test, *(time_text(row.parts_s[name]) if name in row.parts_s else "" for name in names)] for row in made
    ]
    return Table(["test", *(part_name(name) for name in names)], cells) if made else None


def part_name(name: str) -> str:
    """Return how a part of a time is called: ``decode_image_s`` is ``decode image``."""
    return words(name.removesuffix("_s"))


def quality_text(quality: Quality) -> str:
    """Return in one sentence what the speed costs."""
    if not quality.n_photos:  # zeros of nothing measured are no figures
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
    cells = [_against_cells(found) for found in result.against]
    return Table(["test", "ours", "theirs", "as fast", "low..high", "turns", "what"], cells) if cells else None


def _against_cells(found: Against) -> list[str]:
    ratios = found.ratios
    if not ratios:  # interrupted before the first pair was whole
        return [found.test, "", "", "", "", "0", found.what]
    return [
        found.test, time_text(median(found.ours_ns) / 1e9), time_text(median(found.theirs_ns) / 1e9),
        change_text(found.ratio), interval_text(min(ratios), max(ratios)), str(len(ratios)), found.what,
    ]  # fmt: skip


def predictions_table(result: Result) -> Table | None:
    """Return what other types and budgets would take, or None where nothing was calculated."""
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
