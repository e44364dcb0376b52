"""The sentences pocket can say, fault by fault: statements, praise, advice, names.

It is data only. A law that the tests hold: the markers of a fault (FAULT_MARKERS) occur in what is said about
that fault and nowhere else, so that a critique can be read back mechanically.
"""

from __future__ import annotations

import re

# Statements take a grade: 0 slight, 1 clear, 2 severe. "{a}" is replaced by an adverb of the grade, "{b}" by one
# that can stand before "too".
ADVERBS = (("slightly", "somewhat"), ("clearly", "noticeably", "visibly"), ("badly", "severely"))
DEGREES = (("slightly", "a little"), ("clearly", "noticeably"), ("much", "far"))

STATEMENTS: dict[str, tuple[str, ...]] = {
    "defocus": (
        "The image is {a} out of focus.",
        "The focus misses its mark, so the picture is {a} out of focus.",
        "Edges melt together because the lens was {a} out of focus.",
        "Fine detail is lost: the photo is {a} out of focus.",
    ),
    "motion": (
        "The image is {a} smeared by motion blur.",
        "Camera shake has {a} smeared the picture in one direction.",
        "Lines are doubled and dragged, {a} spoilt by motion blur.",
        "Motion blur has {a} softened every edge.",
    ),
    "noise": (
        "The image is {a} affected by noise.",
        "Noise {a} disturbs the picture, above all in smooth areas.",
        "Grain and colored noise {a} disturb the picture.",
        "Smooth areas are {a} broken up by noise.",
    ),
    "underexposure": (
        "The image is {a} underexposed.",
        "The photo is {a} underexposed, and the shadows hold little detail.",
        "The exposure falls short: the picture is {b} too dark.",
        "Everything sinks into shadow; the photo is {a} underexposed.",
    ),
    "overexposure": (
        "The image is {a} overexposed.",
        "The photo is {a} overexposed, and the highlights are washed away.",
        "The exposure goes too far: the picture is {b} too bright.",
        "Bright areas turn white; the photo is {a} overexposed.",
    ),
    "low contrast": (
        "The image is {a} flat, with low contrast.",
        "Low contrast leaves the picture {a} dull.",
        "Tones lie close together, and the low contrast makes the photo {a} lifeless.",
        "The picture looks {a} hazy because of its low contrast.",
    ),
    "color cast": (
        "A color cast {a} distorts the picture.",
        "The colors are {a} shifted by a color cast.",
        "The white balance is {a} off, which leaves a color cast.",
        "A color cast lies over the whole photo and {a} spoils its colors.",
    ),
    "tilt": (
        "The image is {a} tilted.",
        "The camera was {a} tilted, so the scene seems to slide to one side.",
        "The photo is {a} tilted, and nothing stands upright.",
        "The frame is {a} tilted, which unsettles the view.",
    ),
    "jpeg": (
        "The image is {a} damaged by compression.",
        "Compression has {a} broken the picture into blocks.",
        "Blocks and stains from compression {a} disturb the photo.",
        "Compression artifacts {a} spoil the picture.",
    ),
    "low resolution": (
        "The image is {a} harmed by low resolution.",
        "The low resolution {a} limits the detail.",
        "The resolution is too low, which {a} coarsens every edge.",
        "Low resolution {a} robs the photo of detail.",
    ),
    "vignetting": (
        "Vignetting {a} darkens the corners.",
        "The corners fall off into the dark: the vignetting {a} disturbs.",
        "The picture is {a} darkened by vignetting.",
    ),
    "lens tilt": (
        "The verticals are {a} converging.",
        "Converging verticals {a} disturb the picture.",
        "The camera pointed up or down, and the verticals are {a} converging.",
    ),
    "clipped highlights": (
        "The highlights are {a} clipped.",
        "Clipped highlights {a} disturb the bright areas.",
        "The brightest areas are {a} clipped and hold no detail.",
    ),
    "over-saturation": (
        "The colors are {a} over-saturated.",
        "Over-saturation {a} spoils the colors.",
        "The colors look painted: they are {a} over-saturated.",
    ),
}

FAULT_MARKERS: dict[str, re.Pattern[str]] = {
    "defocus": re.compile(r"out of focus|refocus", re.IGNORECASE),
    "motion": re.compile(r"motion blur|camera shake", re.IGNORECASE),
    "noise": re.compile(r"\bnois[ey]", re.IGNORECASE),
    "underexposure": re.compile(r"underexpos|too dark", re.IGNORECASE),
    "overexposure": re.compile(r"overexpos|too bright", re.IGNORECASE),
    "low contrast": re.compile(r"low contrast", re.IGNORECASE),
    "color cast": re.compile(r"color cast", re.IGNORECASE),
    "tilt": re.compile(r"tilt", re.IGNORECASE),
    "jpeg": re.compile(r"compress", re.IGNORECASE),
    "low resolution": re.compile(r"resolution", re.IGNORECASE),
    "vignetting": re.compile(r"vignett", re.IGNORECASE),
    "lens tilt": re.compile(r"converging", re.IGNORECASE),
    "clipped highlights": re.compile(r"clipped|clipping", re.IGNORECASE),
    "over-saturation": re.compile(r"saturat", re.IGNORECASE),
}
NAMES = {
    "defocus": "wrong focus",
    "motion": "motion blur",
    "noise": "noise",
    "underexposure": "underexposure",
    "overexposure": "overexposure",
    "low contrast": "low contrast",
    "color cast": "a color cast",
    "tilt": "tilt",
    "jpeg": "compression artifacts",
    "low resolution": "low resolution",
    "vignetting": "vignetting",
    "lens tilt": "converging verticals",
    "clipped highlights": "clipped highlights",
    "over-saturation": "over-saturation",
}
PREDICATES: dict[str, tuple[str, ...]] = {
    "defocus": ("out of focus",),
    "motion": ("spoilt by motion blur", "smeared by camera shake"),
    "noise": ("affected by noise",),
    "underexposure": ("underexposed",),
    "overexposure": ("overexposed",),
    "low contrast": ("dulled by low contrast",),
    "color cast": ("distorted by a color cast",),
    "tilt": ("tilted",),
    "jpeg": ("damaged by compression",),
    "low resolution": ("harmed by low resolution",),
    "vignetting": ("darkened by vignetting",),
    "lens tilt": ("disturbed by converging verticals",),
    "clipped highlights": ("harmed by clipped highlights",),
    "over-saturation": ("over-saturated",),
}
"""What can follow "It is ..."."""
SECOND = "The photo is also {}."
"""Of the second fault, with its predicate."""

ADVICE: dict[str, tuple[str, ...]] = {
    "defocus": (
        "Next time, let the camera refocus before you press the shutter.",
        "Refocus on what matters and take the shot again.",
    ),
    "motion": (
        "A faster shutter or a tripod would prevent the motion blur.",
        "Hold the camera still or use a shorter shutter time to avoid camera shake.",
    ),
    "noise": (
        "A lower ISO and more light would reduce the noise.",
        "Use a lower ISO next time to keep the noise down.",
    ),
    "underexposure": (
        "Give more exposure next time, so that it is not too dark.",
        "A longer exposure or more light would cure the underexposure.",
    ),
    "overexposure": (
        "Give less exposure next time, so that it is not too bright.",
        "A shorter exposure would cure the overexposure.",
    ),
    "low contrast": (
        "Stronger light or a steeper tone curve would lift the low contrast.",
        "Set a black and a white point to cure the low contrast.",
    ),
    "color cast": (
        "Correct the white balance to remove the color cast.",
        "Set the white balance to the light of the scene to avoid the color cast.",
    ),
    "tilt": ("Straighten the picture to remove the tilt.", "Hold the camera level next time to avoid the tilt."),
    "jpeg": (
        "Save the file at a higher quality to avoid compression damage.",
        "Use a weaker compression when you save the photo.",
    ),
    "low resolution": ("Take or export the photo at a higher resolution.", "Use the full resolution of the camera."),
    "vignetting": (
        "Close the aperture a little to reduce the vignetting.",
        "Correct the lens in an editor to remove the vignetting.",
    ),
    "lens tilt": (
        "Step back and hold the camera upright to avoid converging verticals.",
        "Correct the perspective to keep the verticals from converging.",
    ),
    "clipped highlights": (
        "Expose for the bright areas to avoid clipped highlights.",
        "Give a little less light next time to keep the highlights from clipping.",
    ),
    "over-saturation": ("Take the saturation back.", "Use a lower saturation in the editor."),
}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "sharpness": ("defocus", "motion", "low resolution"),
    "noise": ("noise", "jpeg"),
    "exposure": ("underexposure", "overexposure", "clipped highlights", "vignetting"),
    "contrast": ("low contrast",),
    "color": ("color cast", "over-saturation"),
}
"""What is rated one by one, and the faults that spoil it. Of the attribute noise, much of it is a low score."""

PRAISE: dict[str, tuple[str, ...]] = {
    "sharpness": ("Edges are sharp and well defined.", "The picture is crisp, and fine detail is easy to see."),
    "noise": ("Smooth areas are clean.", "Surfaces look clean and smooth."),
    "exposure": ("The brightness is well balanced.", "Light and shadow both keep their detail."),
    "contrast": ("The tones are rich and well separated.", "Light and dark are well separated."),
    "color": ("The colors look natural.", "Colors are clean and true."),
}
"""For a critique: without the markers of any fault."""
LEVELS: dict[str, tuple[str, str, str]] = {
    "sharpness": ("The sharpness is very good.", "The sharpness is good.", "The sharpness is fair."),
    "noise": ("There is hardly any noise.", "There is little noise.", "There is some noise, but it does not disturb."),
    "exposure": ("The exposure is very good.", "The exposure is good.", "The exposure is fair."),
    "contrast": ("The contrast is very good.", "The contrast is good.", "The contrast is fair."),
    "color": ("The color is very good.", "The color is good.", "The color is fair."),
}
"""Of an attribute without a fault, from the best down."""
WEAKNESS: dict[str, str] = {
    "sharpness": "Its weakest side is how sharp it is.",
    "noise": "Its weakest side is how clean its surfaces are.",
    "exposure": "Its weakest side is the light.",
    "contrast": "Its weakest side is how far light and dark lie apart.",
    "color": "Its weakest side is the color.",
}
"""Of a photograph that people would not like much, where no fault is clear."""
CARE: dict[str, str] = {
    "sharpness": "Take more care of the focus next time.",
    "noise": "Look for more light next time.",
    "exposure": "Take more care of the light next time.",
    "contrast": "Look for stronger light next time.",
    "color": "Take more care of the colors next time.",
}
"""Advice on the weakest side."""

LOOK_SENTENCES: dict[str, str] = {
    "bright": "Bright tones give it a light mood.",
    "dark": "Dark tones give it a quiet mood.",
    "warm": "Warm colors set the mood.",
    "cool": "Cool colors set the mood.",
    "vivid": "Vivid colors draw the eye.",
    "muted": "Muted colors keep it calm.",
}
BANDS = (0.3, 0.45, 0.6, 0.75)
"""Quality, 0 to 1, at which one verdict ends and the next begins."""
OPENINGS: tuple[tuple[str, ...], ...] = (
    ("This photo is of very low quality.", "This picture is not a success."),
    ("This photo is of low quality.", "This picture is rather poor."),
    ("This is an average photo.", "This picture is of medium quality."),
    ("This is a good photo.", "This picture is well made."),
    ("This is a very good photo.", "This picture is of high quality."),
)
"""Two for each verdict, from the worst: for its lower and its upper half."""
IN_A_WORD = ("Bad.", "Poor.", "Average.", "Good.", "Excellent.")
CLOSINGS = ("No correction is needed.", "It can be kept as it is.")
NO_FAULT = "I see no clear fault."
OTHER_FAULTS = "I see no other fault."
NOT_TAUGHT = "I was not taught that."
UNKNOWN: dict[str, str] = {
    "beauty": f"{NOT_TAUGHT} What is beautiful is for people to say.",
    "people": f"{NOT_TAUGHT} I do not know who is in a photo.",
    "places": f"{NOT_TAUGHT} I do not know where or when a photo was taken.",
    "composition": f"{NOT_TAUGHT} I judge how clean a photo is, not how it is composed.",
    "content": f"{NOT_TAUGHT} I judge how a photo was taken, not what it shows.",
    "feeling": f"{NOT_TAUGHT} I do not know what a photo makes people feel.",
    "other": f"{NOT_TAUGHT} I judge the quality of photos and nothing else.",
}
ABOUT_ITSELF = "I am pocket, a small model that judges the quality of photos."
GREETING = "Hello! Ask me about the quality of this photo."
THANKS = "You are welcome."
