"""Write vision graphs in fp32 (fused), fp16 and int8, each measured on photos.

    raw fp32 ──optimize──▶ fp32 ──write_fp16──▶ fp16
                             └────write_int8──▶ int8

A reduction of image tokens is added to what is written; calibration sees the graph without it.

How graphs are rewritten stands in ``vision_fusion``, ``vision_fp16``, ``vision_int8`` and ``reduction``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.errors import ParityError
from aesedge.system.machine import default_n_threads
from aesedge.vision.tower import VisionTower

from . import vision_fp16, vision_int8
from .onnx_graph import Graph
from .reduction import NONE, add_reduction
from .vision_calibration import largest_tap, run_with_taps, site_taps
from .vision_fusion import optimize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    FloatArray = npt.NDArray[np.float32]

__all__ = [
    "FP16_MIN_COSINE",
    "INT8_MIN_COSINE",
    "Fp16Report",
    "Int8Report",
    "optimize",
    "variations",
    "write_fp16",
    "write_int8",
    "write_int8_unseen",
]

FP16_MIN_COSINE = 0.9999
INT8_MIN_COSINE = 0.99
"""Least cosine of any row of image embeddings, of any photo, to its row in fp32."""
_N_IMAGES = 24  # with fewer photos, int8 is also measured on variations of them


@dataclass(frozen=True)
class Fp16Report:
    """What half precision costs, measured on photos."""

    min_cosine: float
    mean_cosine: float
    limit: float
    largest: float
    """Largest absolute value that any tensor of the fp32 graph took; float16 ends at 65504."""
    nodes_in_fp32: list[str]
    """Nodes that stay in float32, because their values come too near float16's end."""
    n_photos: int


@dataclass(frozen=True)
class Int8Report:
    """What 8 bits cost, measured on photos."""

    min_cosine: float
    mean_cosine: float
    limit: float
    layers_in_fp32: list[str]
    """Linears that stay in float32, because the limit is not held with them in 8 bits."""
    n_photos: int
    n_images: int
    """Photos and variations of them."""


def write_fp16(
    fp32: Path,
    path: Path,
    pixels: Sequence[FloatArray],
    *,
    min_cosine: float = FP16_MIN_COSINE,
    reduction: str = NONE,
) -> Fp16Report:
    """Write a vision graph in half precision; input and output stay float32.

    Args:
        fp32: an optimised graph without reduction.
        path: the file to write.
        pixels: photos, float32 [1, 3, size, size] each, to measure on.
        min_cosine: what every row must keep to its row in fp32.
        reduction: how its image tokens are reduced.

    Raises:
        ParityError: the limit is not held; no file is left.
    """
    graph = Graph(fp32)
    names = vision_fp16.float_tensors(graph)
    taps = [largest_tap(graph, name) for name in names]
    values, expected = run_with_taps(graph, fp32, taps, pixels)
    ranges = {name: max(float(of_one[tap]) for of_one in values) for name, tap in zip(names, taps, strict=True)}
    del graph
    graph = Graph(fp32)
    kept = vision_fp16.convert(graph, ranges)
    add_reduction(graph, reduction)
    graph.save(path)
    del graph
    least, mean = _cosines(path, pixels, expected)
    if not least >= min_cosine:
        path.unlink()
        raise ParityError(f"{path.name}: the least cosine of a row to fp32 is {least:.6f}, the limit is {min_cosine}")
    return Fp16Report(least, mean, min_cosine, max(ranges.values()), kept, len(pixels))


def write_int8(
    fp32: Path,
    path: Path,
    pixels: Sequence[FloatArray],
    *,
    min_cosine: float = INT8_MIN_COSINE,
    reduction: str = NONE,
    progress: Callable[[float], None] | None = None,
) -> Int8Report:
    """Write a vision graph whose linears compute in 8 bits, calibrated and measured on photos.

    Few photos say little of others: pocket held a least cosine of 0.994 on the two sample photos, and 0.956 on 56
    others. So their :func:`variations` count too: what held 0.99 on those held 0.995 on the others.

    Where the limit is not held, linears go back to float32: the fewest of those with the largest expected error that
    hold it, less those that turn out not to be needed.

    Args:
        fp32: an optimised graph without reduction.
        path: the file to write.
        pixels: photos, float32 [1, 3, size, size] each.
        min_cosine: what every row must keep to its row in fp32.
        reduction: how its image tokens are reduced.
        progress: called with the share done, 0..1.

    Raises:
        ParityError: the limit is not held even with all linears in float32; no file is left.
    """
    report = progress or (lambda _share: None)
    report(0.0)
    images = variations(pixels)
    plan, expected = _calibrate(fp32, images)
    report(0.5)
    attempts = _Attempts(fp32, path, plan, images, expected, reduction)
    least, mean = attempts.measure([])
    in_fp32: list[str] = []
    if not least >= min_cosine:
        in_fp32 = _fewest_in_fp32(attempts, plan.by_error(), min_cosine)
        least, mean = attempts.measure(in_fp32)
    report(1.0)
    order = [linear.name for linear in plan.linears]
    return Int8Report(least, mean, min_cosine, sorted(in_fp32, key=order.index), len(pixels), len(images))


def write_int8_unseen(fp32: Path, path: Path, *, reduction: str = NONE) -> None:
    """Write a vision graph whose linears compute in 8 bits, all of them and without looking at photos.

    For weights that mean nothing: speed depends on operators and sizes, and these are what :func:`write_int8` writes
    where every linear holds the limit and no division needs a Mul, as it finds with random weights at ViT-L/336 size.
    What folds into norms and values changes numbers alone. Parity with fp32 is not measured.

    Args:
        fp32: an optimised graph without reduction.
        path: the file to write.
        reduction: how its image tokens are reduced.
    """
    graph = Graph(fp32)
    vision_int8.quantize(graph, vision_int8.find_linears(graph))
    add_reduction(graph, reduction)
    graph.save(path)


def variations(pixels: Sequence[FloatArray]) -> list[FloatArray]:
    """Return photos, and while they are few each one darker, flatter, mirrored and in enlarged quarters.

    Args:
        pixels: float32 [1, 3, size, size] each, normalised.
    """
    found = list(pixels)
    n_more = max(0, _N_IMAGES - len(pixels)) // max(1, len(pixels))
    for of_one in pixels:
        size = of_one.shape[-1]
        first, second = np.arange(size) // 2, np.arange(size) // 2 + size // 2
        others = [
            0.4 * of_one,
            0.5 * of_one + 0.8,
            0.5 * of_one - 0.8,
            *(of_one[..., rows, :][..., columns] for rows in (first, second) for columns in (first, second)),
            of_one[..., ::-1],
        ]
        found.extend(np.ascontiguousarray(other, np.float32) for other in others[:n_more])
    return found


class _Attempts:
    """The same graph with some linears in float32, written and measured."""

    def __init__(
        self,
        fp32: Path,
        path: Path,
        plan: vision_int8.Int8Plan,
        pixels: Sequence[FloatArray],
        expected: list[FloatArray],
        reduction: str,
    ) -> None:
        self.path = path
        self._fp32, self._plan, self._pixels, self._expected = fp32, plan, pixels, expected
        self._reduction = reduction

    def measure(self, in_fp32: Collection[str]) -> tuple[float, float]:
        """Write the file; return the least and the mean cosine."""
        graph = Graph(self._fp32)
        vision_int8.quantize(graph, self._plan, in_fp32)
        add_reduction(graph, self._reduction)
        graph.save(self.path)
        del graph
        return _cosines(self.path, self._pixels, self._expected)


def _fewest_in_fp32(attempts: _Attempts, worst_first: list[str], limit: float) -> list[str]:
    """Return the linears that must stay in float32 for the limit to hold.

    Raises:
        ParityError: it does not hold even with all of them.
    """

    def holds(names: Collection[str]) -> bool:
        return attempts.measure(names)[0] >= limit

    n_low, n_high = 0, len(worst_first)  # too few, enough
    least, _ = attempts.measure(worst_first)
    if not least >= limit:
        attempts.path.unlink()
        raise ParityError(
            f"{attempts.path.name}: the least cosine of a row to fp32 is {least:.6f} with every linear in float32, the "
            f"limit is {limit}"
        )
    step = 1
    while n_low + step < n_high:  # few are enough as a rule: 1, 2, 4, ... first
        if holds(worst_first[: n_low + step]):
            n_high = n_low + step
            break
        n_low += step
        step *= 2
    while n_high - n_low > 1:
        middle = (n_low + n_high) // 2
        n_low, n_high = (n_low, middle) if holds(worst_first[:middle]) else (middle, n_high)
    needed = worst_first[:n_high]
    for name in reversed(worst_first[: n_high - 1]):  # the last one is: without it the limit was not held
        without = [other for other in needed if other != name]
        if holds(without):
            needed = without
    return needed


def _calibrate(fp32: Path, pixels: Sequence[FloatArray]) -> tuple[vision_int8.Int8Plan, list[FloatArray]]:
    """Calibrate the linears on photos; return the plan with its smoothing, and the photos' embeddings in fp32."""
    graph = Graph(fp32)
    plan = vision_int8.find_linears(graph)
    names = plan.sites()
    taps = [site_taps(graph, name) for name in names]
    values, expected = run_with_taps(graph, fp32, [tap for of_site in taps for tap in of_site], pixels)
    sites = {
        name: vision_int8.Site(
            np.min([of_one[low] for of_one in values], axis=0),
            np.max([of_one[high] for of_one in values], axis=0),
            np.concatenate([of_one[rows][0] for of_one in values]),
        )
        for name, (low, high, rows) in zip(names, taps, strict=True)
    }
    vision_int8.choose_smoothing(graph, plan, sites)
    return plan, expected


def _cosines(path: Path, pixels: Sequence[FloatArray], expected: Sequence[FloatArray]) -> tuple[float, float]:
    """Return the least and the mean cosine of a graph's rows to those expected."""
    found = []
    with VisionTower(path, device="cpu", n_threads=default_n_threads(path.stat().st_size)) as tower:
        for of_one, theirs in zip(pixels, expected, strict=True):
            a, b = tower.encode(of_one).astype(np.float64), theirs.astype(np.float64)
            found.append((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
    cosines = np.concatenate(found)
    return float(cosines.min()), float(cosines.mean())
