"""Bursts: time, camera and likeness to the first frame; brackets apart; the sharpest first, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cli_runner import cli  # noqa: F401 (a fixture)
from conftest import drawn_photo
from photo_files import capture
from PIL import Image, ImageFilter

from aesedge.library.bursts import group_shots, is_bracket, ordered
from aesedge.library.catalogue import open_catalogue
from aesedge.library.examination import THUMBNAIL
from aesedge.library.records import Content, Shot
from aesedge.library.sharpness import sharpness

if TYPE_CHECKING:
    from pathlib import Path

    from cli_runner import Cli


def thumbnail(seed: int, *, shift: int = 0, brightness: float = 1.0) -> bytes:
    photo = drawn_photo(seed, (400, 300)).crop((shift, 0, 360 + shift, 300))
    levels = np.clip(np.asarray(photo, np.float32) * brightness, 0, 255).astype(np.uint8)
    return Image.fromarray(levels).resize(THUMBNAIL, Image.Resampling.BOX).tobytes()


def shot(number: int, at: float, seed: int = 0, *, score: float = 5.0, **about: object) -> Shot:
    given = {"camera": "a", "exposure_s": 0.01, "thumbnail": thumbnail(seed, shift=number % 4), **about}
    return Shot(number, f"{number:03}.jpg", Content(taken_at=at, **given), score)  # type: ignore[arg-type]


def groups(*shots: Shot) -> list[list[int]]:
    return [[one.content for one in group] for group in group_shots(shots)]


def test_frames_that_follow_and_look_like_the_first_are_a_burst() -> None:
    assert groups(*(shot(i, 1.5 * i) for i in range(4))) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    "second",
    [
        shot(1, 2.5),  # later
        shot(1, 1.0, seed=7),  # another scene
        shot(1, 1.0, camera="b"),
        shot(1, 1.0, thumbnail=b""),  # of a damaged catalogue
    ],
)
def test_other_frames_are_not(second: Shot) -> None:
    assert groups(shot(0, 0.0), second) == []


def test_the_gap_begins_when_an_exposure_ends() -> None:
    assert groups(shot(0, 0.0, exposure_s=3.0), shot(1, 4.5)) == [[0, 1]]


def test_a_scene_that_changes_slowly_is_compared_with_the_first_frame() -> None:
    """Each frame is like the one before; the last is unlike the first."""
    first, last = (np.frombuffer(thumbnail(seed), np.uint8).astype(np.float32) for seed in (0, 7))
    between = [(first * (1 - part) + last * part).astype(np.uint8).tobytes() for part in np.linspace(0, 1, 9)]
    found = groups(*(shot(i, float(i), thumbnail=row) for i, row in enumerate(between)))
    assert len(found) > 1
    assert [0, 8] not in [[group[0], group[-1]] for group in found]


BIASES = [(-2.0, 0.0, 2.0), (0.0, -1.0, 1.0), (-1.3, -0.7, 0.0, 0.7, 1.3)]


@pytest.mark.parametrize("biases", BIASES)
def test_brackets_stand_apart(biases: tuple[float, ...]) -> None:
    shots = [shot(i, float(i), exposure_ev=ev, thumbnail=thumbnail(0, brightness=2**ev)) for i, ev in enumerate(biases)]
    (group,) = group_shots(shots)
    assert len(group) == len(biases)
    assert is_bracket(group)


def test_brackets_by_hand_are_known_by_their_exposure_times() -> None:
    shots = [shot(i, float(i), exposure_s=0.01 * 4**i, exposure_ev=0.0) for i in range(3)]
    assert is_bracket(shots)


@pytest.mark.parametrize(
    "shots",
    [
        [shot(i, float(i), exposure_ev=0.0) for i in range(5)],
        [shot(i, float(i), exposure_ev=ev) for i, ev in enumerate((0.0, 1.0))],
        [shot(i, float(i), exposure_ev=ev) for i, ev in enumerate((0.0, 0.1, 1.7))],
        [shot(i, float(i), exposure_s=0.01 * (1 + 0.05 * i)) for i in range(4)],
        [shot(i, float(i), exposure_s=None) for i in range(4)],
    ],
)
def test_these_are_no_brackets(shots: list[Shot]) -> None:
    assert not is_bracket(shots)


def test_the_sharpest_is_first_then_the_score_decides_and_words_say_so() -> None:
    shots = [shot(i, float(i), score=score) for i, score in enumerate((5.0, 6.0, 9.0, 4.0))]
    found = ordered(shots, {0: 1.0, 1: 0.97, 2: 0.5, 3: None})
    assert [(one.content, reason) for one, reason in found] == [
        (1, "as sharp as one of the others, with the highest score of these"),
        (0, "as sharp as the best, with a lower score (5.0 against 6.0)"),
        (3, "its sharpness is not known; ordered by score"),
        (2, "less sharp than the best (50% of its detail)"),
    ]
    clear = ordered(shots, {0: 0.4, 1: 1.0, 2: 0.5, 3: 0.3})
    assert (clear[0][0].content, clear[0][1]) == (1, "sharper than the other three")
    assert ordered(shots[:2], {0: 2.0, 1: 1.0})[0][1] == "sharper than the other"
    assert len(ordered(shots, dict.fromkeys(range(4), 0.0))) == 4


@pytest.mark.parametrize("radius", [0.6, 1.5, 3, 8])
def test_sharpness_falls_with_blur_of_the_whole_picture_and_not_of_the_background(radius: float) -> None:
    photo = drawn_photo(3, (1920, 1280))
    blurred = photo.filter(ImageFilter.GaussianBlur(radius))
    assert sharpness(blurred) < 0.9 * sharpness(photo)
    blurred.paste(photo.crop((600, 400, 1300, 900)), (600, 400))  # the subject is sharp
    assert sharpness(blurred) > 0.9 * sharpness(photo)


def test_exposure_hardly_changes_sharpness() -> None:
    photo = np.asarray(drawn_photo(3, (1200, 800)), np.float32) * 0.8
    dark, bright = (Image.fromarray((photo * scale).astype(np.uint8)) for scale in (0.8, 1.0))
    assert sharpness(dark) == pytest.approx(sharpness(bright), rel=0.05)


def test_rate_finds_bursts_and_their_best_frame(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    folder.mkdir()
    photo = drawn_photo(1, (640, 480))
    for i, radius in enumerate((2.0, 0.0, 3.0)):
        frame = photo.filter(ImageFilter.GaussianBlur(radius)) if radius else photo
        exif = capture("2026:11:30 10:00:00", subsec=f"{3 * i}0")
        frame.save(folder / f"{i}.jpg", quality=95, exif=exif)
    drawn_photo(2, (640, 480)).save(folder / "later.jpg", exif=capture("2026:11:30 11:00:00"))
    assert cli("rate", "--quiet", folder)[0] == 0

    def frames() -> dict[str, tuple[int, str] | None]:
        with open_catalogue() as catalogue:
            return {
                photo.path.rpartition("/")[2]: photo.frame and (photo.frame.position, photo.frame.reason)
                for photo in catalogue.judgements(folder)
            }

    found = frames()
    assert found["later.jpg"] is None
    assert found["1.jpg"] == (1, "sharper than the other two")
    assert [found[f"{i}.jpg"][0] for i in range(3)] == [2, 1, 3]  # type: ignore[index]
    drawn_photo(1, (640, 480)).rotate(0.5).save(
        folder / "3.jpg", quality=95, exif=capture("2026:11:30 10:00:01", subsec="90")
    )
    cli("rate", "--quiet", folder)
    assert sum(frame is not None for frame in frames().values()) == 4
