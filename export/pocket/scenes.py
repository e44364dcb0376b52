"""Put subjects before backgrounds, so that the composition of a picture is known because the script made it.

A subject in the centre or on a third, whole or cut off by the frame; borders that are empty or full of other things.
Of ordinary photographs none of this is known, neither that it is there nor that it is not: see UNKNOWN. It knows
pictures and places; it does not know files, faults or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from .faults import LONG_SIDE, fit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLAWS = ("cut off", "cluttered borders")
PLACES = ("centred", "on a third")
LAYOUT = (*FLAWS, *PLACES)
UNKNOWN = float("nan")
MOVED_BY = ("tilt", "lens tilt")
"""Faults that change the frame, after which nothing is known of the composition."""
ENLARGED_MAX = 1.15
"""Cut-outs are small photographs; enlarged more, a clean scene would look soft."""

Label = dict[str, float]
"""Name in LAYOUT -> 1 there, 0 not there, UNKNOWN."""


@dataclass(frozen=True)
class Plan:
    """Where the subject stands; `place` is one of PLACES or empty."""

    place: str
    cut_off: bool
    cluttered: bool

    def labels(self) -> Label:
        """Return what is known; of a subject that is cut off, nobody says that it is well placed."""
        found = dict.fromkeys(LAYOUT, 0.0)
        found["cut off"], found["cluttered borders"] = float(self.cut_off), float(self.cluttered)
        if self.place and not self.cut_off:
            found[self.place] = 1.0
        return found


def draw_plan(rng: np.random.Generator) -> Plan:
    """Return a plan in which every flaw is there in a third of the scenes, and a place in most others."""
    place = str(rng.choice((*PLACES, ""), p=(0.35, 0.45, 0.2)))
    return Plan(place, bool(rng.random() < 0.35), bool(rng.random() < 0.35))


def backdrop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a part of a photograph as a background, mostly out of focus, as behind a subject near the lens."""
    share = rng.uniform(0.3, 1.0)
    width, height = max(8, int(photo.width * share)), max(8, int(photo.height * share))
    left, top = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
    part = fit(photo.crop((left, top, left + width, top + height)), LONG_SIDE)
    softness = float(rng.choice((0.0, 1.0), p=(0.15, 0.85))) * rng.uniform(3, 14)
    return part.filter(ImageFilter.GaussianBlur(softness)) if softness else part


def middle(size: tuple[int, int], subject: tuple[int, int], plan: Plan, rng: np.random.Generator) -> tuple[int, int]:
    """Return where the middle of the subject goes, pixels from the upper left."""
    (width, height), (w, h) = size, subject
    if plan.cut_off:  # 30 to 60 % of it outside, to one side
        hidden, side = rng.uniform(0.3, 0.6), int(rng.integers(4))
        along_x, along_y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.35, 0.65) * height
        return (
            (round(w * (0.5 - hidden)), round(along_y)), (round(width - w * (0.5 - hidden)), round(along_y)),
            (round(along_x), round(h * (0.5 - hidden))), (round(along_x), round(height - h * (0.5 - hidden))),
        )[side]  # fmt: skip
    play = rng.uniform(-0.025, 0.025, 2)
    if plan.place == "centred":
        x, y = 0.5, 0.5
    elif plan.place == "on a third":
        x, y = rng.choice((1 / 3, 2 / 3)), rng.choice((0.4, 0.5, 0.6))
    else:  # near a side, neither in the centre nor on a third
        x, y = rng.choice((0.2, 0.8)), rng.uniform(0.3, 0.7)
    x, y = (x + play[0]) * width, (y + play[1]) * height
    room = 0.02 * width  # whole subjects keep off the frame
    return (round(float(np.clip(x, w / 2 + room, width - w / 2 - room))),
            round(float(np.clip(y, h / 2 + room, height - h / 2 - room))))  # fmt: skip


def resized(subject: Image.Image, size: tuple[int, int], share: float) -> Image.Image:
    """Return the subject at this share of the frame, never enlarged by more than ENLARGED_MAX."""
    factor = min(share * size[0] / subject.width, share * size[1] / subject.height, ENLARGED_MAX)
    new = (max(8, round(subject.width * factor)), max(8, round(subject.height * factor)))
    return subject.resize(new, Image.Resampling.BICUBIC)


def paste(picture: Image.Image, subject: Image.Image, at: tuple[int, int]) -> None:
    """Put the subject with its middle here, its outline softened by less than a pixel."""
    outline = subject.getchannel("A").filter(ImageFilter.GaussianBlur(0.6))
    picture.paste(subject.convert("RGB"), (at[0] - subject.width // 2, at[1] - subject.height // 2), outline)


def clutter(picture: Image.Image, others: Sequence[Image.Image], rng: np.random.Generator) -> None:
    """Let other things stick into the picture, all around."""
    width, height = picture.size
    n = int(rng.integers(5, 9))
    for k in range(n):
        other = resized(others[int(rng.integers(len(others)))], picture.size, rng.uniform(0.18, 0.3))
        along = (k + rng.uniform(0.2, 0.8)) / n * 4
        side, place = int(along), along % 1
        at = ((place * width, 0), (width, place * height), (place * width, height), (0, place * height))[side]
        paste(picture, other, (round(at[0]), round(at[1])))


def scene(
    photo: Image.Image, subjects: Sequence[Image.Image], rng: np.random.Generator, plan: Plan | None = None
) -> tuple[Image.Image, Label]:
    """Return a clean scene and what is known of its composition.

    Args:
        photo: the background, RGB.
        subjects: RGBA; the first is the subject, the others may clutter the borders.
        rng: decides what the plan leaves open.
        plan: where the subject stands; drawn if left out.
    """
    plan = plan or draw_plan(rng)
    picture = backdrop(photo, rng)
    if plan.cluttered:
        clutter(picture, subjects[1:] or subjects, rng)
    share = rng.uniform(0.45, 0.7) if plan.cut_off else rng.uniform(0.35, 0.6)
    subject = resized(subjects[0], picture.size, share)
    paste(picture, subject, middle(picture.size, subject.size, plan, rng))
    return picture, plan.labels()


def known_after(labels: Label, strengths: Mapping[str, float]) -> Label:
    """Return what is still known of the composition under these faults."""
    moved = any(strengths.get(fault, 0.0) > 0 for fault in MOVED_BY)
    return dict.fromkeys(LAYOUT, UNKNOWN) if moved else labels
