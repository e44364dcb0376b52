"""Grade a language model file in one phrase by its distance from the reference.

Mean KL divergence, in nats: llama.cpp publishes, for Llama-2-7B (the base of LLaVA-1.5) on Wikitext-2 against F16
(tools/perplexity/README.md), 0.0004 for Q8_0, 0.0021 for Q6_K, 0.0127 for Q4_K_M and 0.109 for Q2_K. Scaled by its
table for Llama-3-8B, which lists every type, Q5_K_M lies near 0.004, Q4_0 near 0.029 and Q3_K_M near 0.041. The limits
stand in the gaps: Q6_K and larger answer as the original, the 4-bit and 5-bit types are the ones people settle on,
below them the loss shows, and anything worse than 2 bits is of no use. A layout that was read wrongly gives 0.1
and more, whatever the type.

Score drift, in points of 0..10: scores are shown with one decimal, so 0.05 does not show; 0.3 reorders only photos that
stand next to each other; a whole point is a tenth of the scale.
"""

from __future__ import annotations

from typing import NamedTuple


class Grade(NamedTuple):
    """A verdict and the worst figures that still earn it."""

    verdict: str
    mean_kl: float
    max_score_drift: float


GRADES = (
    Grade("as the original", 0.003, 0.05),
    Grade("close", 0.035, 0.3),
    Grade("noticeably different", 0.2, 1.0),
)
NOT_USABLE = "not usable"


def verdict(mean_kl: float, max_score_drift: float) -> str:
    """Return the best grade that both figures earn; figures that are not numbers earn none."""
    for grade in GRADES:
        if mean_kl <= grade.mean_kl and max_score_drift <= grade.max_score_drift:
            return grade.verdict
    return NOT_USABLE


def limits_of_verdicts() -> dict[str, dict[str, float]]:
    """Return what each verdict means, as plain JSON values, for the manifest."""
    return {g.verdict: {"mean_kl": g.mean_kl, "max_score_drift": g.max_score_drift} for g in GRADES}
