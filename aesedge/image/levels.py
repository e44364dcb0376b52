"""Map samples of any bit depth to 8-bit levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[Any]

BRIGHTER_THAN_WHITE = "its values go up to {brightest:g}: 1 is taken for white, and what is brighter is cut"
NOT_UP_TO_WHITE = "its values go up to {brightest:g}, which is taken for white"
BELOW_BLACK = "its values go down to {darkest:g}: 0 is taken for black"


@dataclass
class Range:
    """The range of the values of a picture whose file does not state its white level."""

    darkest: float = 0.0
    brightest: float = 0.0
    n_values: int = 0
    n_above_one: int = 0

    def add(self, samples: Samples) -> None:
        """Add values of the picture; values that are not finite are ignored."""
        values = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples
        if values.size:
            self.darkest = min(self.darkest, float(values.min()))
            self.brightest = max(self.brightest, float(values.max()))
        self.n_values += values.size
        self.n_above_one += int(np.count_nonzero(values > 1))

    def white(self, kind: str) -> float:
        """Return the white level.

        Whole numbers: the smallest of 255, 65535 and 2**31 - 1 or 2**32 - 1 that covers the picture. Floats: 1 where
        most values are up to 1, as photo programs write them (highlights may be brighter); else 255, or the maximum.
        """
        if kind == "f":
            if self.brightest <= 1 or 2 * self.n_above_one < self.n_values:
                return 1.0
            return max(self.brightest, 255.0)
        return next((top for top in (2**8 - 1, 2**16 - 1, 2**31 - 1) if self.brightest <= top), 2**32 - 1)

    def warnings(self, kind: str) -> list[str]:
        """Return warnings where the white level is a guess."""
        white, said = self.white(kind), []
        if kind == "f" and white == 1 and self.brightest > 1.001:
            said.append(BRIGHTER_THAN_WHITE.format(brightest=self.brightest))
        if kind == "f" and white > 255:
            said.append(NOT_UP_TO_WHITE.format(brightest=self.brightest))
        if self.darkest < (-0.001 if kind == "f" else 0):
            said.append(BELOW_BLACK.format(darkest=self.darkest))
        return said


def to_levels(samples: Samples, white: float) -> npt.NDArray[np.uint8]:
    """Return values as 0..255, clipped to 0..white, NaN as 0.

    Integers of more than 8 bits lose their low bits, as in Pillow's decoders.
    """
    if samples.dtype.kind == "f":
        real = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=white, neginf=0.0)
        levels = real * np.float32(255 / white)
        rounded: npt.NDArray[np.uint8] = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
        return rounded
    if samples.dtype.kind == "i":
        samples = np.maximum(samples, 0)
    bits = int(white).bit_length()
    if bits >= 8:
        upper: npt.NDArray[np.uint8] = np.minimum(samples >> (bits - 8), 255).astype(np.uint8)
        return upper
    table = np.rint(np.arange(2**bits) * (255 / white)).astype(np.uint8)
    return np.asarray(table[np.minimum(samples, 2**bits - 1)])
