"""Make bundles of an exact shape and precision with random weights, for benchmarks, without PyTorch.

Importing this package loads nothing heavy: :func:`write_shape` is looked up when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builder import write_shape

__all__ = ["write_shape"]


def __getattr__(name: str) -> Any:
    """Load the builder on first use (PEP 562).

    Raises:
        MissingExtraError: a package of the extra ``convert`` is not installed.
    """
    if name != "write_shape":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .builder import write_shape
    except ModuleNotFoundError as error:
        from aesedge.errors import MissingExtraError

        raise MissingExtraError(f"making a bundle of a shape uses the package '{error.name}'", "convert") from None
    return write_shape
