"""Turn what the tower's head says into what pocket may say: faults that it sees reliably, and a severity.

The language is taught to say what the tower sees, not what was done to the photograph: where a fault is too faint
for the tower, silence is the right answer, and a sentence about it would teach guessing. It knows logits and
strengths; it does not know pixels or words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .faults import FAULTS, MAIN_FAULTS
from .scenes import FLAWS, LAYOUT, PLACES

Strengths = Mapping[str, float]
Numbers = npt.NDArray[np.float64]
N_FAULTS = len(FAULTS)
TOTAL, FIRST_OF_LAYOUT = 2 * N_FAULTS, 2 * N_FAULTS + 1
"""Where the head's logits say how spoilt the photo is altogether, and what they say of its composition."""
FLAW_STRENGTH = 0.5
"""Of a flaw of the composition nobody knows how strong it is: it is there or not."""
NEVER = 99.0
"""A threshold that no logit reaches."""
TOLD_FROM, TOLD_APART = 0.1, 3.0
"""A trait of the composition is said only if it is in a tenth of the scenes that have it, and thrice as often there."""
LAYOUT_ALARMS = (0.004, 0.004, 0.02, 0.02)
"""Of ordinary clean photographs, of which nobody knows: where something is said of their composition, by LAYOUT."""
MENTIONED = 0.15
"""A fault weaker than this is left unsaid."""
STRONG_FROM = 0.6
"""Thresholds are set to find faults this strong and stronger."""
SHARES = (0.0, 0.002, 0.004, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05)
"""Of clean pictures, that a threshold may let through: what the search tries for each fault."""
WORTH = tuple(1.0 if fault in MAIN_FAULTS else 0.5 for fault in FAULTS)
"""What it is worth to find a fault: the four that are rarely seen at a glance must not use up all false alarms."""


@dataclass(frozen=True)
class Impression:
    """What can be told of one photograph."""

    faults: Strengths
    """Faults to name, with their strengths."""
    estimate: Strengths
    """The expected strength of every fault, to name or not: what the scores are made of."""
    total: float
    """How spoilt the photograph is altogether, 0..1."""
    places: Sequence[str] = ()
    """Where the subject stands (scenes.PLACES), if that can be told."""


def severity(strengths: Strengths, faults: Sequence[str] | None = None) -> float:
    """Return how spoilt a photograph is by these faults (all by default), 0..1, rising with every strength."""
    left = 1.0
    for fault, strength in strengths.items():
        if faults is None or fault in faults:
            left *= 1 - 0.9 * strength
    return 1 - left


def known(strengths: Strengths) -> Impression:
    """Return the impression of somebody who knows the faults."""
    told = {fault: strength for fault, strength in strengths.items() if strength >= MENTIONED}
    return Impression(told, strengths, severity(strengths))


def find_scale(logits: Numbers, totals: Numbers) -> tuple[float, float]:
    """Return (slope, offset) that make the logit of the total true on validation pictures, by Platt's method.

    Taught to put pictures in order, the head exaggerates how far they are apart. Source: J. Platt, Probabilistic
    outputs for support vector machines, 1999.

    Args:
        logits: of the total, [n].
        totals: how spoilt each picture is, 0..1, [n].
    """
    from scipy.optimize import minimize

    def loss(line: Numbers) -> float:
        scaled = line[0] * logits + line[1]
        return float(np.mean(np.logaddexp(0, scaled) - totals * scaled))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(offset)


def impressions(logits: Numbers, thresholds: Numbers, scale: tuple[float, float] = (1.0, 0.0)) -> list[Impression]:
    """Return what the tower sees of each picture.

    Args:
        logits: of the head, [n, outputs]: strengths, presence, total, composition.
        thresholds: from which a fault is named, and from which something is said of the composition,
            [faults + LAYOUT].
        scale: slope and offset of the total's logit, as find_scale returns them.
    """
    shares = 1 / (1 + np.exp(-logits))
    shares[:, TOTAL] = 1 / (1 + np.exp(-(scale[0] * logits[:, TOTAL] + scale[1])))
    found = []
    for row, share in zip(logits, shares, strict=True):
        estimate = {fault: float(share[k]) for k, fault in enumerate(FAULTS)}
        told = {fault: max(MENTIONED, estimate[fault]) for k, fault in enumerate(FAULTS)
                if row[N_FAULTS + k] > thresholds[k]}  # fmt: skip
        seen = [name for k, name in enumerate(LAYOUT) if row[FIRST_OF_LAYOUT + k] > thresholds[N_FAULTS + k]]
        flaws = dict.fromkeys((name for name in seen if name in FLAWS), FLAW_STRENGTH)
        places = tuple(name for name in seen if name in PLACES)
        found.append(Impression(told | flaws, estimate | flaws, float(share[TOTAL]), places))
    return found


def find_layout_thresholds(ordinary: Numbers, scenes: Numbers, layout: Numbers) -> Numbers:
    """Return from where something is said of the composition; NEVER for what the tower cannot tell apart.

    Args:
        ordinary: logits of ordinary clean photographs, [n, outputs].
        scenes: logits of scenes, [m, outputs].
        layout: what is known of those, [m, LAYOUT].
    """
    found = np.full(len(LAYOUT), NEVER)
    for k, share in enumerate(LAYOUT_ALARMS):
        limit = np.quantile(ordinary[:, FIRST_OF_LAYOUT + k], 1 - share)
        said = scenes[:, FIRST_OF_LAYOUT + k] > limit
        there, lacks = (float(said[layout[:, k] == value].mean()) for value in (1, 0))
        if there > max(TOLD_FROM, TOLD_APART * lacks):
            found[k] = limit
    return found


def find_thresholds(logits: Numbers, labels: Numbers, whole: Numbers, *, false_alarms: float) -> Numbers:
    """Return the logit of presence from which each fault is named.

    As many strong faults as possible are found (see WORTH) while at most this share of the clean pictures, crops or
    whole, has any fault named. The budget goes, step by step, to the fault where it buys most.

    Args:
        logits: of validation crops, [n, outputs].
        labels: their strengths, [n, faults].
        whole: logits of clean photographs that no crop was cut from, [m, outputs]; m may be 0.
        false_alarms: share of clean pictures.
    """
    there = logits[:, N_FAULTS : 2 * N_FAULTS]
    clean = there[labels.max(1) == 0]
    kept = whole[:, N_FAULTS : 2 * N_FAULTS]
    strong = [there[(labels[:, k] >= STRONG_FROM) & ((labels > 0).sum(1) == 1), k] for k in range(N_FAULTS)]
    steps = np.quantile(clean, [1 - share for share in SHARES], axis=0)  # [shares, faults]
    steps[0] = np.concatenate([clean, kept]).max(0) + 0.1  # above every clean picture
    at = [0] * N_FAULTS

    def alarms(chosen: list[int]) -> float:
        limits = steps[chosen, np.arange(N_FAULTS)]
        return max(float((mine > limits).any(1).mean()) for mine in (clean, kept) if len(mine))

    while True:
        now, best, best_worth = alarms(at), None, 0.0
        for k in range(N_FAULTS):
            for further in range(at[k] + 1, len(SHARES)):
                after = [*at[:k], further, *at[k + 1 :]]
                cost = alarms(after)
                if cost > false_alarms:
                    break
                gain = WORTH[k] * float((strong[k] > steps[further, k]).mean() - (strong[k] > steps[at[k], k]).mean())
                worth = gain / max(cost - now, 1e-4)
                if gain > 0 and worth > best_worth:
                    best, best_worth = after, worth
        if best is None:
            return np.asarray(steps[at, np.arange(N_FAULTS)])
        at = best
