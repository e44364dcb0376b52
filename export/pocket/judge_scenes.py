"""Measure what pocket says of the composition of scenes, whose composition is known because a script made them.

It knows scenes and a judge; it does not know faults, and it says nothing about photographs that nobody arranged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import cutouts, photos, scenes
from .figures import interval
from .language import named_faults
from .phrases import LOOK_SENTENCES
from .questions import CRITIQUE_QUESTION

if TYPE_CHECKING:
    from pathlib import Path

    from .judges import Judge

QUESTION = "Analyze the composition of this image."
N_SCENES = 80


def said(name: str, critique: str, analysis: str) -> bool:
    """Tell whether a flaw or a place is named in the critique or in the answer about the composition."""
    if name in scenes.FLAWS:
        return name in named_faults(f"{critique} {analysis}")
    return any(sentence in f"{critique} {analysis}" for sentence in LOOK_SENTENCES[name])


def scene_figures(
    judge: Judge, cache: Path, split: str, *, n: int = N_SCENES, seed: int = 2
) -> dict[str, dict[str, float]]:
    """Return how often each trait of the composition is said, with intervals over the subjects.

    Args:
        judge: writes and answers.
        cache: where photographs and subjects lie.
        split: backgrounds and subjects of this split only.
        n: scenes.
        seed: of the scenes.

    Returns:
        "<trait>, there" and "<trait>, not there": the share of scenes in which it is said; where it is not there,
        0 would be right.
    """
    backgrounds = [p for p in photos.gather(cache) if p.split == split]
    subjects = [p for p in cutouts.gather(cache) if p.split == split]
    found: dict[str, list[tuple[float, str]]] = {}
    for number in range(n):
        rng = np.random.default_rng((seed, number))
        chosen = [subjects[int(k)] for k in rng.integers(len(subjects), size=4)]
        background = photos.load(cache, backgrounds[int(rng.integers(len(backgrounds)))])
        picture, labels = scenes.scene(background, [cutouts.load(cache, p) for p in chosen], rng)
        critique, analysis = judge.answers_about(picture, [CRITIQUE_QUESTION, QUESTION])
        for name, there in labels.items():
            key = f"{name}, {'there' if there else 'not there'}"
            found.setdefault(key, []).append((float(said(name, critique, analysis)), chosen[0].name))
    return {key: interval(*zip(*values, strict=True)) for key, values in sorted(found.items())}
