"""Write files under temporary names, and remove those whose writer died.

Each has a lock file that its writer holds and the system releases when the writer dies. So whether it is left over has
an exact answer, without ages, process ids or host names.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@contextmanager
def part_file(folder: Path, alone: Callable[[], AbstractContextManager[None]]) -> Iterator[Path]:
    """Yield a temporary name to write under; a file that still has it at the end is removed.

    Args:
        folder: where it will lie.
        alone: takes the folder's lock, so that no process sweeps between creating the lock file and holding it.
    """
    from filelock import FileLock

    token = secrets.token_hex(8)
    part, alive = _part_and_lock(folder, token)
    with ExitStack() as cleaning:
        with alone():
            cleaning.enter_context(FileLock(alive, timeout=0))
        cleaning.callback(_remove, alive)
        cleaning.callback(_remove, part)
        yield part


def sweep(folder: Path, tokens: Iterable[str]) -> None:
    """Remove temporary files whose writer has died; the caller holds the folder's lock."""
    from filelock import FileLock

    for token in tokens:
        part, alive = _part_and_lock(folder, token)
        with suppress(OSError), FileLock(alive, timeout=0):  # that it is taken is an OSError too
            _remove(part)
            _remove(alive)


def _part_and_lock(folder: Path, token: str) -> tuple[Path, Path]:
    return folder / f".{token}.part", folder / f".{token}.alive"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
