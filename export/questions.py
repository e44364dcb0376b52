"""Define the default questions of a bundle: AesExpert's own, byte for byte where it was trained on them."""

from __future__ import annotations

from aesedge.bundle.manifest import PromptSpec, RatingSpec

# AesBench, eval/eval_AesA1.py (Apache-2.0): question, options and closing sentence.
OPTIONS = " Choose one from the following options:\nA) High\nB) Medium\nC) Low\nYou should output a correct option."

AESTHETIC_QUESTION = f"How is the aesthetic quality of this image?{OPTIONS}"

ATTRIBUTE_QUESTIONS = {
    "technical quality": f"How is the technical quality of this image?{OPTIONS}",
    "color and light": f"How is the quality of color and light in this image?{OPTIONS}",
    "composition": f"How is the quality of the composition of this image?{OPTIONS}",
    "content": f"How is the quality of the content of this image?{OPTIONS}",
}
"""The four dimensions of AesBench's perception task, asked in the shape of the aesthetic question."""


def default_prompt() -> PromptSpec:
    """Return AesExpert's template and the question of its README."""
    return PromptSpec(template="llava_v1", critique="Describe the aesthetic experience of this image in detail.")


def default_rating() -> RatingSpec:
    """Return the rating in AesExpert's vocabulary; a model may answer by the word or by the option's letter."""
    return RatingSpec(
        question=AESTHETIC_QUESTION,
        attributes=dict(ATTRIBUTE_QUESTIONS),
        labels={"high": ["High", "A"], "medium": ["Medium", "B"], "low": ["Low", "C"]},
        weights={"high": 1.0, "medium": 0.5, "low": 0.0},
    )
