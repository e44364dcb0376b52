"""Measure what plainly shows in a photograph's colors: bright or dark, warm or cool, vivid or muted.

It knows pixels as the tower sees them; it does not know faults or sentences.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .scenes import MOVED_BY, PLACES

LOOKS = ("bright", "dark", "warm", "cool", "vivid", "muted")
DISTURBED_BY: dict[str, tuple[str, ...]] = {
    "bright": ("underexposure", "overexposure", "low contrast", "vignetting"),
    "dark": ("underexposure", "overexposure", "low contrast", "vignetting"),
    "warm": ("color cast",),
    "cool": ("color cast",),
    "vivid": ("underexposure", "overexposure", "low contrast", "color cast", "over-saturation"),
    "muted": ("underexposure", "overexposure", "low contrast", "color cast"),
    **dict.fromkeys(PLACES, ("cut off", *MOVED_BY)),
}
"""Faults under which a look (or a place of the subject) is an effect of the fault and must not be told as a quality."""


def looks_of(pixels: npt.NDArray[np.uint8]) -> list[str]:
    """Return the looks of one picture, uint8 [height, width, 3]; padding of the exact pad colour is left out."""
    small = pixels[::4, ::4].reshape(-1, 3).astype(np.float32)
    inside = small[np.abs(small - (122, 116, 104)).max(1) > 1]
    if len(inside) < 50:
        return []
    brightness = float((inside @ np.array((0.299, 0.587, 0.114), np.float32)).mean()) / 255
    warmth = float((inside[:, 0] - inside[:, 2]).mean()) / 255
    color = float((inside.max(1) - inside.min(1)).mean()) / 255
    found = ["bright"] if brightness > 0.62 else ["dark"] if brightness < 0.32 else []
    found += ["warm"] if warmth > 0.12 else ["cool"] if warmth < -0.06 else []
    return found + (["vivid"] if color > 0.32 else ["muted"] if color < 0.13 else [])
