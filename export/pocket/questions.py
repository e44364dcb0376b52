"""The questions pocket is asked in training, in several wordings each.

It is data only; language.py has the answers.
"""

from __future__ import annotations

CRITIQUE_QUESTION = "Describe the aesthetic experience of this image in detail."
CRITIQUE_QUESTIONS = (
    CRITIQUE_QUESTION,
    CRITIQUE_QUESTION,
    CRITIQUE_QUESTION,
    "Critique this photo.",
    "Give a critique of this image.",
    "What do you think of this photo?",
    "What do you think about this image?",
    "Describe the quality of this photo.",
    "Evaluate this image.",
    "How good is this photo?",
    "Describe this image.",
    "Is this a good photo?",
    "How about the aesthetic quality of this image?",
    "What factors influence the aesthetic experience of this image?",
    "How would a photographer judge this picture?",
)
WRONG_QUESTIONS = (
    "What is wrong with this photo?",
    "What is wrong with this image?",
    "What are the faults of this photo?",
    "What does not work in this image?",
    "Which faults does this picture have?",
)
MAIN_QUESTIONS = (
    "What is the main fault of this photo?",
    "What is the main problem of this image?",
    "Name the biggest fault.",
)
ADVICE_QUESTIONS = (
    "How can the aesthetic quality of this image be improved?",
    "How can this photo be improved?",
    "What should I do better next time?",
    "How do I improve this image?",
    "Should I take the photo again?",
)
PRAISE_QUESTIONS = (
    "What works in this photo?",
    "What is good about this image?",
    "What are the strengths of this picture?",
)
UNKNOWN_QUESTIONS = (
    "What is in this image?",
    "What does this photo show?",
    "Who is in this photo?",
    "Where was this photo taken?",
    "What is the subject of this picture?",
    "Describe the contents of this image in detail.",
    "How many people are in this image?",
    "What emotion does this image express?",
    "When was this picture taken?",
    "What kind of animal is this?",
)
# Question -> (faults it asks about, answer when one of them is there).
YES_NO: dict[str, tuple[tuple[str, ...], bool]] = {
    "Is this image clear?": (("defocus", "motion", "noise", "jpeg", "low resolution"), False),
    "Is this photo sharp?": (("defocus", "motion", "low resolution"), False),
    "Is this image blurry?": (("defocus", "motion", "low resolution"), True),
    "Is this photo out of focus?": (("defocus",), True),
    "Is there motion blur in this image?": (("motion",), True),
    "Is this photo noisy?": (("noise",), True),
    "Is this image too dark?": (("underexposure",), True),
    "Is this image too bright?": (("overexposure",), True),
    "Is this photo well exposed?": (("underexposure", "overexposure"), False),
    "Is the contrast of this image too low?": (("low contrast",), True),
    "Are the colors of this photo natural?": (("color cast",), False),
    "Does this image have a color cast?": (("color cast",), True),
    "Is this photo tilted?": (("tilt",), True),
    "Is the horizon level?": (("tilt",), False),
    "Are there compression artifacts in this image?": (("jpeg",), True),
    "Is the resolution of this photo too low?": (("low resolution",), True),
    "Does this photo show vignetting?": (("vignetting",), True),
    "Are the verticals of this image converging?": (("lens tilt",), True),
    "Are the highlights of this photo clipped?": (("clipped highlights", "overexposure"), True),
    "Are the colors of this image over-saturated?": (("over-saturation",), True),
    "Is the subject cut off?": (("cut off",), True),
    "Are the borders of this image cluttered?": (("cluttered borders",), True),
}
