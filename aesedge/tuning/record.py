"""A duel in plain data and words, as profiles keep it; knows figures, decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.tuning.drift import is_tolerable
from aesedge.tuning.duel import LEAST_PAIRS
from aesedge.tuning.steps import UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.profile import Purpose, Settings
    from aesedge.tuning.candidates import Change
    from aesedge.tuning.duel import Samples, Verdict
    from aesedge.tuning.steps import Phase

CHOSEN = "chosen"


def begun(change: Change, base: Settings, purposes: Sequence[Purpose]) -> dict[str, Any]:
    """Return what is known before anything is timed."""
    return {
        "change": change.name,
        "from": {name: getattr(base, name) for name in change.values},
        "to": dict(change.values),
        "purposes": list(purposes),
        "base": msgspec.structs.asdict(base),
    }


def figures(samples: Samples, phase: Phase) -> dict[str, Any]:
    """Return what both sides took, in seconds for a unit."""
    base_s, variant_s = samples.unit_s(phase)
    ratio, noise = samples.ratio(phase)
    return {
        "unit": UNITS[phase],
        "base_s": base_s,
        "variant_s": variant_s,
        "ratio": ratio,
        "noise": noise,
        "n_pairs": len(samples.pairs[phase]),
    }


def said(verdict: Verdict | None, drift: float | None, margin: float) -> str:
    """Return what becomes of a variant, for one purpose.

    Args:
        verdict: how fast it is.
        drift: how far scores have moved with it, in points, since the search began; None is unknown.
        margin: what it must save.
    """
    if drift is not None and not is_tolerable(drift):
        return f"refused: scores move by {drift:.2f}"
    if verdict is None or verdict.n_pairs < LEAST_PAIRS:
        # A single turn says little, but so much slower is no chance.
        return "slower" if verdict is not None and verdict.ratio > 1 + margin else "not decided in time"
    if not verdict.wins(margin):
        return "slower" if verdict.ratio > 1 + margin else "no faster"
    return CHOSEN if drift is not None else "no time to see whether scores move"
