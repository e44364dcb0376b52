"""How much a cache may take, as people write it: ``2GB`` or ``5%``; knows sizes and disks, not what is kept."""

from __future__ import annotations

import re
import shutil
from decimal import Decimal
from typing import TYPE_CHECKING

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_UNITS = {
    **dict(zip(("b", "kb", "mb", "gb", "tb"), (1000**n for n in range(5)), strict=True)),
    **dict(zip(("kib", "mib", "gib", "tib"), (1024**n for n in range(1, 5)), strict=True)),
}
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,15})?)\s*(?P<unit>%|[kmgt]?i?b)", re.IGNORECASE | re.ASCII)


def parse_budget(text: str, folder: Path) -> int:
    """Return a budget in bytes.

    Args:
        text: a size with its unit (``2GB``, ``1.5 GiB``, any case), a share of the disk (``5%``), or ``0`` for nothing.
        folder: what lies on the disk of which a percentage is meant; it need not exist yet.

    Raises:
        UsageError: the text is something else, or the disk's size cannot be found out.
    """
    if text.strip() == "0":
        return 0
    match = _SIZE.fullmatch(text.strip())
    unit = match["unit"].lower() if match else ""
    if match is None or (unit != "%" and unit not in _UNITS):
        raise UsageError(
            f"{text!r} is no budget; write a size with its unit (2GB, 500MB), a share of the disk (5%) or 0"
        )
    number = Decimal(match["number"])
    if unit != "%":
        return int(number * _UNITS[unit])
    if number > 100:
        raise UsageError(f"{text!r} is more than the whole disk; write at most 100%")
    return int(_disk_bytes(folder) * number / 100)


def _disk_bytes(folder: Path) -> int:
    absolute = folder.absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists() or path == path.parent)
    try:
        return shutil.disk_usage(existing).total
    except OSError as error:
        raise UsageError(
            f"{existing}: the size of its disk cannot be found out ({error.strerror}); write the budget as a size (2GB)"
        ) from None
