"""What plainly shows in a photograph's colors: bright or dark, warm or cool, vivid or muted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

LOOKS = ("bright", "dark", "warm", "cool", "vivid", "muted")
DISTURBED_BY: dict[str, tuple[str, ...]] = {
    "bright": ("underexposure", "overexposure", "low contrast", "vignetting"),
    "dark": ("underexposure", "overexposure", "low contrast", "vignetting"),
    "warm": ("color cast",),
    "cool": ("color cast",),
    "vivid": ("underexposure", "overexposure", "low contrast", "color cast", "over-saturation"),
    "muted": ("underexposure", "overexposure", "low contrast", "color cast"),
}
"""Faults under which a look is an effect of the fault and must not be told as a quality."""


def look_flags(brightness: Tensor, warmth: Tensor, color: Tensor) -> Tensor:
    """Return 1 for each look that shows, float32 [n, LOOKS].

    Args:
        brightness: mean brightness of each picture, 0 to 1, [n].
        warmth: mean red less mean blue.
        color: mean span between the channels of a pixel.
    """
    flags = (brightness > 0.62, brightness < 0.32, warmth > 0.12, warmth < -0.06, color > 0.32, color < 0.13)
    return torch.stack([flag.float() for flag in flags], 1)
