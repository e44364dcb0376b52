"""Measure what fewer image tokens cost on photos: scores and likelihoods against all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.bundle.manifest import TokenPoint
from aesedge.engine.likelihood import Changes, read_photo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aesedge.engine.model import Model

_SHARES = (3 / 4, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 9, 1 / 16, 1 / 36)


def budgets(least: int, most: int) -> list[int]:
    """Return the numbers of image tokens that are measured, all of them first."""
    wanted = [most, *(round(share * most) for share in _SHARES), least]
    return sorted({n for n in wanted if least <= n <= most}, reverse=True)


def measure(
    model: Model, photos: Sequence[Path], numbers: Sequence[int], progress: Callable[[float], None]
) -> list[TokenPoint]:
    """Compare every number of image tokens with the first one.

    Args:
        model: with at least as much room as the first number needs.
        photos: the user's own, one or more.
        numbers: image tokens, the reference first.
        progress: called with the share done, 0..1.

    Returns:
        A point for each number but the first.
    """
    changes = {n: Changes() for n in numbers[1:]}
    for i, path in enumerate(photos):
        with model.look(path, image_tokens=numbers[0]) as photo:
            reference = read_photo(model, photo)
        for j, n in enumerate(numbers[1:], 1):
            with model.look(path, image_tokens=n) as photo:
                changes[n].add(reference, read_photo(model, photo, reference.text))
            progress((i + (j + 1) / len(numbers)) / len(photos))
    return [TokenPoint(n=n, **found.figures()) for n, found in changes.items()]
