"""What aesedge remarks while something is done, caught instead of shown; knows logging alone."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Catcher(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def caught_remarks() -> Iterator[list[str]]:
    """Collect warnings in a list; the user does not see them."""
    log, catcher = logging.getLogger("aesedge"), _Catcher()
    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [catcher], False
    log.setLevel(logging.WARNING)
    try:
        yield catcher.messages
    finally:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])
