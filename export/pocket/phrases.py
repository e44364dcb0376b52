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
    "cut off": (
        "The subject is cut off by the frame.",
        "The frame leaves the subject cut off.",
        "Part of the subject is missing: it is cut off at the side.",
    ),
    "cluttered borders": (
        "The borders are cluttered.",
        "Things stick into the frame, which leaves the borders cluttered.",
        "Cluttered borders draw the eye away from the subject.",
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
    "cut off": re.compile(r"\bcut off|cut-off|cutting off", re.IGNORECASE),
    "cluttered borders": re.compile(r"clutter", re.IGNORECASE),
}
NAMES = {
    "defocus": "out of focus",
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
    "cut off": "a cut off subject",
    "cluttered borders": "cluttered borders",
}
LAYOUT_NAMES = {
    "cut off": NAMES["cut off"],
    "cluttered borders": NAMES["cluttered borders"],
    "centred": "centre",
    "on a third": "third",
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
    "cut off": ("disturbed by a cut off subject",),
    "cluttered borders": ("disturbed by cluttered borders",),
}
"""What can follow "It is ..."."""

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
    "cut off": (
        "Step back next time, so that the subject is not cut off.",
        "Leave room around the subject instead of cutting off a part.",
    ),
    "cluttered borders": (
        "Look along the frame before you press the shutter, to avoid the clutter.",
        "Crop the picture to remove the clutter.",
    ),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "sharpness": ("defocus", "motion", "low resolution"),
    "cleanness": ("noise", "jpeg"),
    "exposure": ("underexposure", "overexposure", "clipped highlights", "vignetting"),
    "tone": ("low contrast", "clipped highlights"),
    "color": ("color cast", "over-saturation"),
    "level": ("tilt", "lens tilt"),
}
PRAISE: dict[str, tuple[str, ...]] = {
    "sharpness": (
        "The picture is crisp, and fine detail is easy to see.",
        "Edges are sharp and well defined.",
        "Sharpness is very good.",
    ),
    "cleanness": ("Smooth areas are clean.", "The picture is technically clean.", "Surfaces look clean and smooth."),
    "exposure": (
        "The exposure is well chosen.",
        "The brightness is well balanced.",
        "Light and shadow both keep their detail.",
    ),
    "tone": (
        "The tones are rich and well separated.",
        "The tonal range is full.",
        "Light and dark are well separated.",
    ),
    "color": (
        "The colors look natural.",
        "The white balance is neutral and the colors are believable.",
        "Colors are clean and true.",
    ),
    "level": (
        "The frame is level and steady.",
        "The camera was held straight.",
        "The picture stands upright and steady.",
    ),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "technical quality": ("defocus", "motion", "noise", "jpeg", "low resolution"),
    "color and light": (
        "underexposure",
        "overexposure",
        "low contrast",
        "color cast",
        "vignetting",
        "clipped highlights",
        "over-saturation",
    ),
    "composition": ("tilt", "lens tilt", "cut off", "cluttered borders"),
}
ATTRIBUTE_PRAISE: dict[str, tuple[str, ...]] = {
    "technical quality": ("sharpness", "cleanness"),
    "color and light": ("exposure", "tone", "color"),
    "composition": ("level",),
}

LOOK_SENTENCES: dict[str, tuple[str, ...]] = {
    "bright": ("Bright tones give it a light mood.", "Bright tones dominate."),
    "dark": ("Dark tones give it a quiet mood.", "Dark tones dominate."),
    "warm": ("Warm colors set the mood.", "The colors are warm."),
    "cool": ("Cool colors set the mood.", "The colors are cool."),
    "vivid": ("The colors are vivid.", "Vivid colors draw the eye."),
    "muted": ("The colors are muted.", "Muted colors keep it calm."),
    "centred": ("The subject stands in the centre.", "A central subject keeps it simple."),
    "on a third": ("The subject stands on a third.", "The subject stands to one side, on a third, and has room."),
}
OPENINGS: dict[str, tuple[str, ...]] = {
    "High": (
        "This is a well made photo.",
        "This image looks good.",
        "This photo is pleasant to look at.",
        "This is a convincing picture.",
        "This image has high aesthetic quality.",
        "Technically, this is a fine photo.",
    ),
    "Medium": (
        "This image is of medium quality.",
        "This photo has good sides, but it is not free of faults.",
        "This picture could be good, but something holds it back.",
        "This is an average photo.",
        "This image has medium aesthetic quality.",
    ),
    "Low": (
        "This image does not look good.",
        "This photo is of low quality.",
        "This picture is spoilt.",
        "This image has low aesthetic quality.",
        "This photo is not a success.",
    ),
}
CLOSINGS = (
    "There is nothing important to correct.",
    "It can be kept as it is.",
    "I would keep this photo.",
    "Next time, do the same again.",
    "No correction is needed.",
)
CONTENT = {
    "High": (
        "The content is easy to read.",
        "What the picture shows can be read clearly.",
        "The content comes across clearly.",
    ),
    "Medium": (
        "The content can still be read, but it has lost clarity.",
        "What the picture shows is still readable, with losses.",
    ),
    "Low": ("The content is hard to read.", "What the picture shows is hard to make out."),
}
UNKNOWN = (
    "I can't tell. I judge how a photo was taken, not what it shows.",
    "I can't tell what it shows; I only judge how it was taken.",
)
