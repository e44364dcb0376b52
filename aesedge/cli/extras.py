"""What a command says where a package of its extra is missing; knows the extras' names, not what the commands do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aesedge.errors import MissingExtraError


@contextmanager
def imports_of_extra(command: str, extra: str) -> Iterator[None]:
    """Around a command's imports: a package that is not there becomes an error that names the extra which brings it."""
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"aesedge {command} ({error.name or error} is not installed)", extra) from None
