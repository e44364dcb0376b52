"""Write figures for people: times, rates, sizes, settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aesedge.bench.result import Row

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_UNITS = {
    "bytes_per_s": "B/s", "flops_per_s": "FLOP/s", "ops_per_s": "OP/s", "per_s": "/s", "bytes": "B", "percent": "%",
    "s": "s",
}  # fmt: skip
"""Last words of a name, and the unit of its number."""
_HASH_DIGITS = 12
_HASH_LENGTHS = {40, 64}  # SHA-1 of a commit, SHA-256 of a file


def digits(value: float, n: int = 3) -> str:
    """Return a number with n significant digits, and no exponent: ``1234``, ``12.3``, ``0.00123``."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    whole = math.floor(math.log10(abs(value))) + 1
    return f"{value:.{max(0, n - whole)}f}"


def time_text(seconds: float) -> str:
    """Return a time in its natural unit: ``1.24 s``, ``312 ms``, ``4.20 us``."""
    if seconds >= 1:
        return f"{digits(seconds)} s"
    if seconds >= 1e-4 or seconds == 0:
        return f"{digits(seconds * 1e3)} ms"
    return f"{digits(seconds * 1e6)} us"


def rate_text(row: Row) -> tuple[str, str]:
    """Return a row's mean rate and its deviation as llama-bench writes them, both empty where there is no rate."""
    if not row.samples_ns or not row.unit:
        return "", ""
    rate = row.avg_ts
    n_decimals = 2 if rate >= 1 or rate <= 0 else 2 - math.floor(math.log10(rate))
    return f"{rate:.{n_decimals}f}", f"{row.stddev_ts:.{n_decimals}f}"


def change_text(ratio: float) -> str:
    """Return how many times as fast something is: ``1.32x``."""
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"{digits(ratio, 2)}x"


def interval_text(low: float, high: float) -> str:
    """Return the bounds of a ratio: ``1.28..1.36``."""
    return f"{change_text(low)[:-1]}..{change_text(high)[:-1]}"


def share_text(shares: Mapping[str, float]) -> str:
    """Return the share of each ceiling that is reached: ``73 % of memory read``."""
    return ", ".join(f"{digits(percent, 2)} % of {words(name)}" for name, percent in shares.items())


def scaled(value: float, unit: str) -> str:
    """Return a large number with the prefix of its unit: ``21.4 GB/s``."""
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1.0, ""))
    return f"{digits(value / scale)} {prefix}{unit}".rstrip()


def binary_size(n_bytes: int) -> str:
    """Return a size as llama-bench writes a model's: ``3.80 GiB``, ``24.10 MiB``."""
    n_mib = n_bytes / 2**20
    return f"{n_mib / 1024:.2f} GiB" if n_mib >= 1024 else f"{n_mib:.2f} MiB"


def parameters(n: int) -> str:
    """Return a number of parameters as llama-bench writes it: ``6.74 B``, ``25.30 M``."""
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.2f} M"


def words(name: str) -> str:
    """Return a name from code or JSON as words; one that has spaces is left alone."""
    return name if " " in name else name.replace("_", " ")


def value_text(value: Any, name: str = "") -> str:
    """Return a value from JSON as people read it; its name ends with the unit: ``_bytes``, ``_s``, ``_per_s``."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return (("on", "off"), ("yes", "no"))[name.startswith(("is_", "has_"))][not value]
    if isinstance(value, int | float):
        return _number_text(value, _unit_of(name)[1])
    if isinstance(value, dict):
        told = [_named(key, inner) for key, inner in value.items() if inner not in (None, "", [], {})]  # not 0, False
        return ", ".join(told) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(f"({value_text(v)})" if isinstance(v, dict) else value_text(v, name) for v in value) or "-"
    text = str(value)
    is_hash = len(text) in _HASH_LENGTHS and all(c in "0123456789abcdef" for c in text)
    return text[:_HASH_DIGITS] if is_hash else text


def _number_text(value: float, unit: str) -> str:
    if unit == "s":
        return time_text(value)
    if unit == "%":
        return f"{digits(value)} %"
    return scaled(value, unit) if unit else str(value) if isinstance(value, int) else digits(value, 4)


def _named(name: str, value: Any) -> str:
    shown = value_text(value, name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    end = _unit_of(name)[0] if is_number else ""  # it stands behind the number
    label = words(name.removesuffix(f"_{end}") if end else name.removeprefix("is_"))
    return f"{label} {f'({shown})' if isinstance(value, dict | list) else shown}"


def _unit_of(name: str) -> tuple[str, str]:
    return next(((end, unit) for end, unit in _UNITS.items() if f"_{name}".endswith(f"_{end}")), ("", ""))
