"""Laws of the scenes: what their labels say of the composition is what their pixels show."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("scipy", reason="needs the extra [export]")

from aesedge_export.pocket import cutouts, scenes

pytestmark = pytest.mark.export
RED, GREEN = (220, 10, 10), (10, 200, 10)
PLANS = [
    scenes.Plan(place, cut_off, cluttered)
    for place in (*scenes.PLACES, "")
    for cut_off in (False, True)
    for cluttered in (False, True)
]


def thing(color: tuple[int, int, int], size: tuple[int, int] = (200, 160)) -> Image.Image:
    image = Image.new("RGBA", size)
    ImageDraw.Draw(image).ellipse((0, 0, size[0] - 1, size[1] - 1), fill=color)
    return image


def mask(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(np.asarray(picture, int) - color).max(-1) < 60).nonzero()


def made(plan: scenes.Plan, seed: int) -> tuple[Image.Image, scenes.Label]:
    grey = Image.new("RGB", (960, 640), (128, 128, 128))
    return scenes.scene(grey, [thing(RED), thing(GREEN)], np.random.default_rng(seed), plan)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_labels_say_what_the_pixels_show(plan: scenes.Plan) -> None:
    for seed in range(6):
        picture, labels = made(plan, seed)
        assert max(picture.size) == 480
        assert set(labels) == set(scenes.LAYOUT)
        y, x = mask(picture, RED)
        width, height = picture.size
        at_frame = x.min() == 0 or y.min() == 0 or x.max() == width - 1 or y.max() == height - 1
        assert at_frame == bool(labels["cut off"])
        assert (len(mask(picture, GREEN)[0]) > 500) == bool(labels["cluttered borders"])
        if plan.cut_off:
            assert labels["centred"] == labels["on a third"] == 0
            continue
        middle = (x.min() + x.max()) / 2 / width
        near = {"centred": abs(middle - 0.5), "on a third": min(abs(middle - 1 / 3), abs(middle - 2 / 3))}
        for place in scenes.PLACES:
            if labels[place]:
                assert near[place] < 0.05


def test_every_trait_is_drawn_both_ways() -> None:
    rng = np.random.default_rng(0)
    drawn = [scenes.draw_plan(rng).labels() for _ in range(200)]
    for name in scenes.LAYOUT:
        assert 0.15 < np.mean([labels[name] for labels in drawn]) < 0.5, name


def test_same_seed_gives_the_same_scene() -> None:
    one, two = (made(PLANS[0], 3)[0].tobytes() for _ in range(2))
    assert one == two


def test_nothing_is_known_once_the_frame_was_moved() -> None:
    labels = PLANS[0].labels()
    assert scenes.known_after(labels, {"noise": 0.5}) == labels
    for fault in scenes.MOVED_BY:
        assert all(math.isnan(value) for value in scenes.known_after(labels, {fault: 0.5}).values())


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_a_subject_is_cropped_to_its_outline() -> None:
    sheet = Image.new("RGBA", (400, 300))
    sheet.paste(thing(RED), (50, 60))
    subject = cutouts.cut(png(sheet))
    assert subject is not None
    assert abs(subject.width - 200) <= 1
    assert abs(subject.height - 160) <= 1


@pytest.mark.parametrize("image", [Image.new("RGBA", (300, 300), (*RED, 255)), thing(RED, (90, 90))])
def test_what_has_no_outline_or_is_too_small_is_no_subject(image: Image.Image) -> None:
    assert cutouts.cut(png(image)) is None
