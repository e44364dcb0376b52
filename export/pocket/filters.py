"""Design the tower's patch embedding: 252 filters that together show every fault, none of them learnt.

What a photograph loses by blur, noise, compression or tilt shows in its finest pixels, so that the tower sees 480
of them a side, in patches of 40. A patch has 4,800 values; the filters choose what to read of them: mean light and
color, coarse cosines, spectra of small windows, long oriented edges (for tilt and shake), steps at each of the
eight phases of JPEG's blocks. It knows pixels of one patch; it does not know the tower behind.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

PATCH = 40
LUMA, RED_BLUE, GREEN = (0.299, 0.587, 0.114), (0.5, 0.0, -0.5), (-0.5, 1.0, -0.5)
N_LINEAR = 18
"""The first filters are levels of light and color; of all others the tower needs the energy."""
N_FILTERS = 252
Plane = npt.NDArray[np.float64]


def cosine(size: int, k: int) -> Plane:
    """Return the DCT-II basis function of one frequency."""
    return np.cos(math.pi / size * (np.arange(size) + 0.5) * k)


def placed(window: Plane, top: int, left: int) -> Plane:
    """Return a patch that is 0 outside of a window."""
    patch = np.zeros((PATCH, PATCH))
    patch[top : top + window.shape[0], left : left + window.shape[1]] = window
    return patch


def wave(angle: float, wavelength: float, phase: float, *, across: float, along: float) -> Plane:
    """Return a wave under a Gaussian, `across` and `along` its crests; degrees, pixels."""
    y, x = np.mgrid[:PATCH, :PATCH] - (PATCH - 1) / 2
    turned = math.radians(angle)
    u, v = x * math.cos(turned) + y * math.sin(turned), y * math.cos(turned) - x * math.sin(turned)
    envelope = np.exp(-0.5 * (u / across) ** 2 - 0.5 * (v / along) ** 2)
    found = envelope * np.cos(2 * math.pi * u / wavelength + phase)
    return np.asarray(found - envelope * (found.sum() / envelope.sum()))


def levels() -> Iterator[tuple[tuple[float, ...], Plane]]:
    """Yield light and color of the quarters, and the light of six points."""
    half = PATCH // 2
    for colour, top, left in product((LUMA, RED_BLUE, GREEN), (0, half), (0, half)):
        yield colour, placed(np.ones((half, half)), top, left)
    for top, left in ((4, 6), (8, 30), (18, 18), (28, 4), (34, 22), (24, 34)):
        yield LUMA, placed(np.ones((3, 3)), top, left)


def steps() -> Iterator[tuple[tuple[float, ...], Plane]]:
    """Yield steps across columns and rows at each phase of eight, two of each, less the slope beside them."""
    edge = np.outer(np.ones(8), (0.5, -1.5, 1.5, -0.5))
    for phase, (k, other) in product(range(8), ((1, 0), (3, 2))):
        yield LUMA, placed(edge, 8 * other, 8 * k + phase - 2)
        yield LUMA, placed(edge.T, 8 * k + phase - 2, 8 * other)


def energies() -> Iterator[tuple[tuple[float, ...], Plane]]:
    """Yield what has an energy: cosines of the patch and of small windows, fine grain, waves, long edges."""
    for u, v in ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0), (0, 4), (4, 0), (2, 2)):
        yield LUMA, np.outer(cosine(PATCH, u), cosine(PATCH, v))
    place = np.random.default_rng(40)
    for size, frequencies in ((8, (0, 1, 2, 3, 5, 7)), (16, (0, 1, 3, 6, 10, 15))):
        for u, v in list(product(frequencies, repeat=2))[1:]:
            top, left = place.integers(PATCH - size + 1, size=2)
            yield LUMA, placed(np.outer(cosine(size, u), cosine(size, v)), int(top), int(left))
    for u, v in ((3, 3), (2, 3), (3, 2), (1, 3), (3, 1)):
        for top, left in ((6, 26), (24, 10)):
            yield LUMA, placed(np.outer(cosine(4, u), cosine(4, v)), top, left)
    for colour, (size, u, v) in product((RED_BLUE, GREEN), ((4, 3, 3), (4, 1, 1), (8, 1, 0), (8, 0, 1))):
        yield colour, placed(np.outer(cosine(size, u), cosine(size, v)), 16, 16)
    yield from steps()
    for axis, angle, wavelength, phase in product((0, 90), (0, -4, 4, -8, 8, -14, 14), (5.0, 10.0), (0, math.pi / 2)):
        yield LUMA, wave(axis + angle, wavelength, phase, across=0.4 * wavelength + 1, along=11)
    for frequency, angle, phase in product((0.12, 0.22, 0.35, 0.06), (30, 60, 120, 150, 45, 135), (0, math.pi / 2)):
        yield LUMA, wave(angle, 1 / frequency, phase, across=4, along=4)


def design() -> npt.NDArray[np.float32]:
    """Return all filters, float32 [N_FILTERS, 3, PATCH, PATCH], each of length 1, for RGB of 0 to 1."""
    chosen = [*levels(), *energies()][:N_FILTERS]
    planes = np.stack([np.multiply.outer(colour, plane) for colour, plane in chosen])
    return np.asarray(planes / np.sqrt((planes**2).sum((1, 2, 3), keepdims=True)), dtype=np.float32)
