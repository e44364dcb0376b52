"""How figures are written for people: times, rates, memory, settings; knows units, not what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aesedge.bench.result import Row

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_HASH_DIGITS = 12
_HASH_LENGTHS = {40, 64}  # SHA-1 of a commit, SHA-256 of a file


def digits(value: float, n: int = 3) -> str:
    """Return a number with so many digits that count, and no exponent: ``1234``, ``12.3``, ``0.00123``."""
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
    """Return a row's mean rate and its deviation as llama-bench writes them; slow ones with more digits.

    Both are empty where there is no rate.
    """
    if not row.samples_ns or not row.unit:
        return "", ""
    rate = row.avg_ts
    n_decimals = 2 if rate >= 1 or rate <= 0 else 2 - math.floor(math.log10(rate))
    return f"{rate:.{n_decimals}f}", f"{row.stddev_ts:.{n_decimals}f}"


def change_text(ratio: float) -> str:
    """Return how many times as fast something is: ``1.32x``."""
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"{digits(ratio, 2)}x"


def interval_text(low: float, high: float) -> str:
    """Return between what a ratio lies: ``1.28..1.36``."""
    return f"{change_text(low)[:-1]}..{change_text(high)[:-1]}"


def share_text(shares: Mapping[str, float]) -> str:
    """Return what share of each ceiling is reached: ``73 % of memory read``; the ceilings go by their names."""
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
    """Return a name from code or JSON as words; names that have spaces are left alone."""
    return name if " " in name else name.replace("_", " ")


def value_text(value: Any, name: str = "") -> str:
    """Return what JSON holds, as people read it; the end of a name tells the unit, as everywhere in aesedge.

    Args:
        value: anything that JSON can hold.
        name: what it is called: ``_bytes``, ``_s``, ``_bytes_per_s``, ``_flops_per_s``, ``_ops_per_s``, ``_percent``.
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return (("on", "off"), ("yes", "no"))[name.startswith(("is_", "has_"))][not value]
    if isinstance(value, int | float):
        return _number_text(value, name)
    if isinstance(value, dict):
        told = {key: inner for key, inner in value.items() if inner not in (None, "", [], {})}  # 0 and False are told
        return ", ".join(_named(key, inner) for key, inner in told.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(f"({value_text(v)})" if isinstance(v, dict) else value_text(v, name) for v in value) or "-"
    text = str(value)
    is_hash = len(text) in _HASH_LENGTHS and all(c in "0123456789abcdef" for c in text)
    return text[:_HASH_DIGITS] if is_hash else text


def _named(name: str, value: Any) -> str:
    shown = value_text(value, name)
    return f"{name_text(name, value)} {f'({shown})' if isinstance(value, dict | list) else shown}"


def name_text(name: str, value: Any) -> str:
    """Return a name as words, without the unit that stands behind its number anyway."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        for end in ("_bytes_per_s", "_flops_per_s", "_ops_per_s", "_per_s", "_bytes", "_percent", "_s"):
            if name.endswith(end):
                return words(name.removesuffix(end))
    return words(name.removeprefix("is_"))


def _number_text(value: float, name: str) -> str:
    for end, unit in (("bytes_per_s", "B/s"), ("flops_per_s", "FLOP/s"), ("ops_per_s", "OP/s"), ("per_s", "/s")):
        if name.endswith(end):
            return scaled(value, unit)
    if name.endswith("bytes"):
        return scaled(value, "B")
    if name.endswith("percent"):
        return f"{digits(value)} %"
    if name.endswith("_s"):
        return time_text(value)
    return str(value) if isinstance(value, int) else digits(value, 4)
