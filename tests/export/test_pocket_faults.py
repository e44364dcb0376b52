"""Laws of the faults that pocket is trained on: the same seed, the same pixels; more strength, more harm."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="needs the extra [export]")
pytest.importorskip("torch", reason="needs the extra [export]")

from aesedge_export.pocket import crops, faults
from aesedge_export.pocket.tower import IMAGE_SIZE

pytestmark = pytest.mark.export
LADDER = (0.1, 0.3, 0.5, 0.7, 0.9)


def drawn_photo(size: tuple[int, int] = (480, 320)) -> Image.Image:
    """Draw a picture with smooth areas, edges and fine texture."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: size[1], : size[0]]
    waves = 0.5 + 0.25 * np.sin(x / 23) + 0.2 * np.cos(y / 17)
    waves[(x // 40 + y // 40) % 2 == 0] *= 0.6
    waves += 0.05 * rng.standard_normal(waves.shape)
    colors = np.stack([waves, 0.9 * waves + 0.03, 0.8 * waves + 0.08], -1)
    return Image.fromarray((255 * np.clip(colors, 0, 1)).astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def gradient(image: Image.Image) -> float:
    grey = array(image.convert("L"))
    return float(np.abs(np.diff(grey, axis=1)).mean() + np.abs(np.diff(grey, axis=0)).mean())


def error(image: Image.Image) -> float:
    return -float(np.sqrt(((array(image) - array(drawn_photo())) ** 2).mean()))


# What falls as the fault grows.
MEASURES = {
    "defocus": gradient,
    "motion": gradient,
    "low resolution": error,
    "jpeg": error,
    "noise": error,
    "underexposure": lambda image: float(array(image).mean()),
    "overexposure": lambda image: -float(array(image).mean()),
    "low contrast": lambda image: float(array(image).std()),
    "color cast": lambda image: -abs(float((array(image)[..., 0] / (array(image)[..., 2] + 1)).mean()) - 1.05),
    "tilt": lambda image: float(image.width * image.height),  # the upright rectangle shrinks
    "vignetting": lambda image: float(array(image)[:40, :40].mean()) / float(array(image)[140:180, 220:260].mean()),
    "lens tilt": error,
    "clipped highlights": lambda image: -float((array(image).min(-1) > 250).mean()),
    "over-saturation": lambda image: -float(np.ptp(array(image), axis=-1).mean()),
}


def test_every_fault_is_measured() -> None:
    assert set(MEASURES) == set(faults.FAULTS)


@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_same_seed_gives_same_pixels(fault: str, vary: bool) -> None:
    one, two = (
        faults.spoil(drawn_photo(), {fault: 0.6}, np.random.default_rng(3), vary=vary).tobytes() for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_harm_grows_with_strength(fault: str) -> None:
    photo = drawn_photo()
    values = [MEASURES[fault](faults.spoil(photo, {fault: s}, np.random.default_rng(1))) for s in LADDER]
    assert all(later < earlier for earlier, later in pairwise(values)), values


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_strength_zero_and_other_faults_change_nothing(fault: str) -> None:
    photo = drawn_photo()
    assert faults.spoil(photo, {fault: 0.0}, np.random.default_rng(0)).tobytes() == photo.tobytes()
    assert faults.spoil(photo, {}, np.random.default_rng(0)).tobytes() == photo.tobytes()


def test_amounts_are_those_of_the_acceptance_test() -> None:
    moderate = {f: faults.amount(f, faults.MODERATE) for f in faults.MAIN_FAULTS}
    strong = {f: faults.amount(f, faults.STRONG) for f in faults.MAIN_FAULTS}
    assert moderate == pytest.approx({
        "defocus": 2.5, "motion": 9, "noise": 22, "underexposure": 1.7, "overexposure": 1.3, "low contrast": 0.5,
        "color cast": 0.22, "tilt": 6, "jpeg": 12, "low resolution": 3,
    })  # fmt: skip
    assert strong == pytest.approx({
        "defocus": 6, "motion": 25, "noise": 50, "underexposure": 3, "overexposure": 2.3, "low contrast": 0.25,
        "color cast": 0.45, "tilt": 14, "jpeg": 4, "low resolution": 6,
    })  # fmt: skip


def test_a_camera_adds_every_fault_once() -> None:
    assert sorted(faults.CAMERA_ORDER) == sorted(faults.FAULTS)
    assert set(faults.MAIN_FAULTS).isdisjoint(faults.MORE_FAULTS)


def test_clipped_highlights_leave_the_middle_tones() -> None:
    photo = drawn_photo()
    clipped = faults.spoil(photo, {"clipped highlights": 0.5}, np.random.default_rng(0))
    dark = array(photo).max(-1) < 90
    assert np.array_equal(array(clipped)[dark], array(photo)[dark])
    assert (array(clipped) > 250).mean() > 0.1


def test_lens_tilt_lets_verticals_converge_and_shows_nothing_from_outside() -> None:
    stripes = np.full((320, 480, 3), 90, np.uint8)
    stripes[:, 100:104] = stripes[:, 376:380] = 250
    picture = array(faults.spoil(Image.fromarray(stripes), {"lens tilt": 0.8}, np.random.default_rng(1)))[..., 0]
    apart = [np.ptp(np.flatnonzero(row > 180)) for row in (picture[5], picture[-6])]
    assert max(apart) > 1.3 * min(apart)
    assert picture.min() > 40  # bicubic rings a little; outside is 0


def test_drawn_faults_never_hide_each_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        drawn = set(faults.draw_strengths(rng, 3))
        assert not any(pair <= drawn for pair in faults.EXCLUSIVE)


def test_versions_of_a_crop_start_clean_and_keep_the_size() -> None:
    rng = np.random.default_rng(0)
    made = list(crops.versions(drawn_photo(), rng))
    assert len(made) == 7
    assert made[0][1] == made[-1][1] == {}
    for weak, strong in ((made[1][1], made[2][1]), (made[3][1], made[4][1])):
        assert set(weak) == set(strong)
        assert sum(weak.values()) < sum(strong.values())
    order = crops.order_of([strengths for _, strengths in made])
    assert [(better, worse) for better, worse, _ in order] == [(0, 1), (1, 2), (0, 3), (3, 4), (0, 5)]
    assert all(gap > 0 for *_, gap in order)
    assert {crops.to_tower(image).size for image, _ in made} == {(IMAGE_SIZE, IMAGE_SIZE)}
