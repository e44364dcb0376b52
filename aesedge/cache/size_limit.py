"""Parse the size limit of a cache: bytes, or a percentage of its disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.system.byte_sizes import parse_size
from aesedge.system.paths import existing_folder

if TYPE_CHECKING:
    from pathlib import Path


def parse_budget(text: str, folder: Path) -> int:
    """Return a budget in bytes.

    Args:
        text: a size, a share of the disk (``5%``), or ``0``; see :func:`aesedge.system.byte_sizes.parse_size`.
        folder: what lies on the disk of which a percentage is meant; it need not exist yet.

    Raises:
        UsageError: the text is something else, or the disk's size cannot be found out.
    """
    return parse_size(text, name="cache size", whole=lambda: _disk_bytes(folder))


def _disk_bytes(folder: Path) -> int:
    existing = existing_folder(folder)
    try:
        return shutil.disk_usage(existing).total
    except OSError as error:
        raise UsageError(
            f"{existing}: the size of its disk cannot be found out ({error.strerror}); write the budget as a size (2GB)"
        ) from None
