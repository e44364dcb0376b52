"""Export PyTorch checkpoints to bundles; the only package that uses torch and transformers.

Importing this package loads nothing heavy: :func:`export_checkpoint` is looked up when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aesedge  # noqa: F401 (sets what the libraries used here read from the environment)

if TYPE_CHECKING:
    from .exporter import export_checkpoint

__all__ = ["export_checkpoint"]


def __getattr__(name: str) -> Any:
    """Load the exporter on first use (PEP 562).

    Raises:
        MissingExtraError: a package of the extra ``export`` is not installed.
    """
    if name != "export_checkpoint":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .exporter import export_checkpoint
    except ModuleNotFoundError as error:
        from aesedge.errors import MissingExtraError

        raise MissingExtraError(f"exporting a checkpoint uses the package '{error.name}'", "export") from None
    return export_checkpoint
