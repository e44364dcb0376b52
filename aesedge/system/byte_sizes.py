"""Parse and format sizes in bytes: ``2GB``, ``512MiB``, ``5%``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {
    **dict(zip(("b", "kb", "mb", "gb", "tb"), (1000**n for n in range(5)), strict=True)),
    **dict(zip(("kib", "mib", "gib", "tib"), (1024**n for n in range(1, 5)), strict=True)),
    **dict(zip("kmgt", (1000**n for n in range(1, 5)), strict=True)),
}
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,15})?)\s*(?P<unit>%|[a-z]{1,3})", re.IGNORECASE | re.ASCII)


def parse_size(text: str, *, name: str, whole: Callable[[], int]) -> int:
    """Return a size in bytes.

    Args:
        text: a number with its unit (``2GB``, ``1.5 GiB``, any case), a percentage (``5%``), or ``0``.
        name: what messages call it.
        whole: returns what 100% is.

    Raises:
        UsageError: the text is something else, or more than 100%.
    """
    if text.strip() == "0":
        return 0
    match = _SIZE.fullmatch(text.strip())
    unit = match["unit"].lower() if match else ""
    if match is None or (unit != "%" and unit not in _UNITS):
        raise UsageError(f"{name} {text!r} is no size; write a number with its unit (6GB, 512MB), or 50%")
    number = Decimal(match["number"])
    if unit != "%":
        return int(number * _UNITS[unit])
    if number > 100:
        raise UsageError(f"{name} {text!r} is more than there is; write at most 100%")
    return int(whole() * number / 100)


def size_text(n_bytes: float) -> str:
    """Return a size for people, with three significant digits: ``24.1 MB``; 1000 bytes to the kB."""
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}" if abs(value) < 999.5 else f"{value:.0f} {unit}"
