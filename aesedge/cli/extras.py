"""Errors that name the extra whose packages a command needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aesedge.errors import MissingExtraError


@contextmanager
def imports_of_extra(command: str, extra: str) -> Iterator[None]:
    """Around a command's imports: turn a missing package into an error that names the extra it belongs to."""
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"aesedge {command} ({error.name or error} is not installed)", extra) from None
