"""Laws of pocket's statistics: an edge counts at its angle, light at its place, and padding nowhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("scipy", reason="needs the extra [export]")

from typing import TYPE_CHECKING

from aesedge_export.pocket import crops, faults
from aesedge_export.pocket.image_statistics import (
    N_COLORS,
    N_DIRECTIONS,
    N_SIZES,
    N_STATISTICS,
    N_TONES,
    OFFSETS,
    RINGS,
    WARMTHS,
    image_statistics,
)
from aesedge_export.pocket.tower import picture_mask, sampled

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.export


def statistics_of(image: Image.Image) -> torch.Tensor:
    pixels = crops.normalised([image])
    few = sampled(pixels)
    return image_statistics(pixels, few, picture_mask(few))[0]


def stripes(degrees: float, size: tuple[int, int] = (480, 320)) -> Image.Image:
    """Soft stripes that lie so many degrees off level, clockwise."""
    y, x = np.mgrid[: size[1], : size[0]]
    down = y * math.cos(math.radians(degrees)) - x * math.sin(math.radians(degrees))
    return Image.fromarray((127 + 90 * np.sin(down / 6)).astype(np.uint8)).convert("RGB")


def test_there_are_as_many_as_is_said() -> None:
    assert statistics_of(stripes(0)).shape == (N_STATISTICS,)
    assert N_COLORS + N_SIZES * N_DIRECTIONS == N_STATISTICS


@pytest.mark.parametrize("size", [(480, 320), (320, 480), (400, 400)])
@pytest.mark.parametrize("degrees", [-16, -8, 0, 4, 12])
def test_an_edge_counts_at_its_angle(degrees: int, size: tuple[int, int]) -> None:
    for k in range(N_SIZES):
        start = N_COLORS + k * N_DIRECTIONS
        upright, level = statistics_of(stripes(degrees, size))[start:][: 2 * len(OFFSETS)].split(len(OFFSETS))
        assert abs(OFFSETS[int(level.argmax())]) == abs(degrees)
        assert float(level.max()) > 5 * float(upright.max())


def test_turned_either_way_is_told_apart() -> None:
    bins = [statistics_of(stripes(degrees))[N_COLORS + len(OFFSETS) :][: len(OFFSETS)] for degrees in (-8, 8)]
    assert int(bins[0].argmax()) + int(bins[1].argmax()) == len(OFFSETS) - 1
    assert int(bins[0].argmax()) != int(bins[1].argmax())


def test_what_is_pooled_leaves_the_padding_out() -> None:
    wide, square = (statistics_of(Image.new("RGB", size, (190, 120, 70))) for size in ((480, 160), (480, 480)))
    np.testing.assert_allclose(wide[:N_COLORS], square[:N_COLORS], atol=0.02)
    frame = statistics_of(stripes(0, (480, 160)).rotate(90, expand=True))  # its long borders touch the padding
    assert OFFSETS[int(frame[N_COLORS:][: len(OFFSETS)].argmax())] == 0
    assert float(frame[N_COLORS + len(OFFSETS) :][: len(OFFSETS)].max()) < 0.1


def test_a_cast_moves_the_hues_and_dark_corners_the_light() -> None:
    grey, hues = Image.new("RGB", (480, 360), (120, 120, 120)), slice(N_TONES, N_TONES + WARMTHS[0])
    place = [int(statistics_of(image)[hues].argmax()) for image in (
        Image.merge("RGB", [c.point(lambda v, g=g: v * g) for c, g in zip(grey.split(), gains, strict=True)])
        for gains in ((0.7, 1.0, 1.3), (1.0, 1.0, 1.0), (1.3, 1.0, 0.7)))]  # fmt: skip
    assert place[0] < place[1] < place[2]
    dark = faults.spoil(grey, {"vignetting": faults.STRONG}, np.random.default_rng(0))
    light = [statistics_of(image)[N_COLORS - 2 * len(RINGS) : N_COLORS : 2] for image in (grey, dark)]
    assert float(light[0].abs().max()) < 0.01
    assert bool((light[1].diff() < -0.05).all())
