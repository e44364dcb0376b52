"""The questions pocket is asked in training, in several wordings each; ``{it}`` is the photograph.

It is data only; language.py has the answers.
"""

from __future__ import annotations

CRITIQUE_QUESTION = "Describe the aesthetic experience of this image in detail."
PHOTO = (
    "this photo",
    "this image",
    "this picture",
    "the photo",
    "the image",
    "the picture",
    "it",
    "this shot",
    "my photo",
)
CRITIQUE_QUESTIONS = (
    CRITIQUE_QUESTION, CRITIQUE_QUESTION, CRITIQUE_QUESTION, "Critique {it}.", "Give a critique of {it}.",
    "What do you think of {it}?", "What do you think about {it}?", "Describe the quality of {it}.", "Evaluate {it}.",
    "Describe {it}.", "Describe {it} in detail.", "Tell me about {it}.", "What can you say about {it}?", "Judge {it}.",
    "How about the aesthetic quality of {it}?", "Write a critique.", "Please review {it}.", "Assess {it}.",
    "What factors influence the aesthetic experience of {it}?", "How would a photographer judge {it}?",
    "What is your opinion of {it}?", "Comment on {it}.", "Analyze {it}.", "Give me feedback on {it}.",
    "Analyze the aesthetic quality of {it}.", "Analyze the technical quality of {it}.",
)  # fmt: skip
SENTENCE_QUESTIONS = (
    "Describe {it} in one sentence.", "How good is {it}?", "Is {it} good or bad?", "What is your verdict on {it}?",
    "How is the quality of {it}?", "Sum {it} up in one sentence.", "How is {it}?", "What is the quality of {it}?",
)  # fmt: skip
WORD_QUESTIONS = (
    "Describe {it} in one word.",
    "Describe the quality of {it} in one word.",
    "One word about {it}, please.",
)
NUMBER_QUESTIONS = (
    "Rate {it} from 1 to 10.", "How many points of 10 does {it} get?", "Give {it} a score from 1 to 10.",
    "What score would you give {it}?", "Rate {it}.", "How would you rate {it}?",
    "Rate the quality of {it} from 1 to 10.",
)  # fmt: skip
GOOD_QUESTIONS = (
    "Is {it} a good photo?", "Is {it} good?", "Is {it} a good photo? Answer with yes or no.", "Do you like {it}?",
    "Is {it} good enough?", "Is the quality of {it} high?", "Is {it} well made?", "Is {it} any good?",
    "Would people like {it}?", "Is {it} of good quality?", "Is {it} good enough to print?",
)  # fmt: skip
BAD_QUESTIONS = ("Is {it} a bad photo?", "Is {it} bad?", "Is the quality of {it} low?", "Is {it} of poor quality?")
KEEP_QUESTIONS = (
    "Would you keep {it}?", "Should I keep {it}?", "Is {it} worth keeping?", "Can I use {it}?", "Should I print {it}?",
)  # fmt: skip
DROP_QUESTIONS = ("Should I delete {it}?", "Would you delete {it}?", "Should I throw {it} away?")
AGAIN_QUESTIONS = ("Should I take {it} again?", "Do I need to take {it} again?", "Should I take the photo again?")
WRONG_QUESTIONS = (
    "What is wrong with {it}?", "What are the faults of {it}?", "What does not work in {it}?",
    "Which faults does {it} have?", "What is wrong?", "What are the weaknesses of {it}?", "What is bad about {it}?",
    "What problems does {it} have?", "List the faults of {it}.", "What spoils {it}?",
    "What do you not like about {it}?",
)  # fmt: skip
MAIN_QUESTIONS = (
    "What is the main fault of {it}?", "What is the main problem of {it}?", "Name the biggest fault.",
    "What is the main fault?", "What is the worst thing about {it}?", "What is the biggest problem?",
)  # fmt: skip
HAS_FAULT_QUESTIONS = ("Does {it} have a fault?", "Is there anything wrong with {it}?", "Are there any problems?")
ADVICE_QUESTIONS = (
    "How can the aesthetic quality of this image be improved?", "How can {it} be improved?",
    "How could I improve {it}?",
    "What should I do better next time?", "How do I improve {it}?", "What should I do differently next time?",
    "Give me three tips.", "Give me a tip.", "What can I do better?", "What would make {it} better?",
    "How can I take better photos?", "Any advice?", "What should I change?", "How do I fix {it}?",
    "Can {it} be improved?",
)  # fmt: skip
CHOICE_QUESTIONS = (
    "Which fault does {it} have?", "What is wrong?", "What is wrong with {it}?", "What is the main fault of {it}?",
    "Which of these faults spoils {it}?",
)  # fmt: skip
CHOOSE = (" Choose one from the following options:", " Choose one:", " Choose one option:", "")
"""What may stand between a multiple choice question and its options."""
CHOICE_ENDS = (
    ("You should output a correct option without explanation.", False),
    ("You should output a correct option.", False),
    ("Answer with the letter only.", True),
    ("Answer with the option's letter.", True),
    ("Answer with the option's letter from the given choices directly.", True),
)
"""What stands below the options, and whether the letter alone is the answer."""
OPTION_FORMS = ("{letter}) {text}", "{letter}. {text}", "({letter}) {text}", "{letter}: {text}")
LEVEL_OPTIONS = (("High", "Medium", "Low"), ("Good", "Fair", "Poor"), ("Good", "Average", "Bad"))
"""From the best down, for each third of a score."""
LEVEL_QUESTIONS = ("How is the {attribute} of {it}?", "How would you rate the {attribute} of {it}?",
                   "What is the level of {attribute} in {it}?")  # fmt: skip
"""About the quality, or an attribute by its name."""
UNKNOWN_CHOICES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "composition": (
        ("How is the composition of {it}?", "Which rule of composition does {it} follow?", "Is {it} well composed?",
         "How is the subject placed in {it}?", "How is the balance of {it}?"),
        ("Rule of thirds", "Symmetry", "Leading lines", "Framing", "Balanced", "Cluttered", "Good", "Poor", "Yes", "No",
         "In the middle", "Diagonal"),
    ),
    "feeling": (
        ("What emotion does {it} evoke?", "What mood does {it} have?", "Which feeling does {it} convey?",
         "What story does {it} tell?", "Does {it} evoke an emotion?"),
        ("Joy", "Sadness", "Calm", "Fear", "Excitement", "Loneliness", "Nostalgia", "Anger", "Warmth", "Yes", "No"),
    ),
    "content": (
        ("What is the subject of {it}?", "What does {it} show?", "What is in the background?",
         "What kind of image is this?"),
        ("A person", "An animal", "A landscape", "A building", "Food", "A car", "A flower", "The sea", "A portrait"),
    ),
    "beauty": (
        ("How beautiful is {it}?", "How interesting is {it}?", "How creative is {it}?", "Is {it} attractive?",
         "Why is {it} beautiful?"),
        ("Very", "Not very", "High", "Medium", "Low", "Yes", "No", "Because of its colors", "Because of its subject"),
    ),
    "other": (
        ("Which camera was used?", "Which lens was used?", "Which filter was used?", "Which style is {it}?"),
        ("A phone", "A film camera", "A wide lens", "A long lens", "Black and white", "Modern", "Vintage", "Abstract"),
    ),
}  # fmt: skip
"""Topic of UNKNOWN_QUESTIONS to multiple choice questions and what their options are drawn from."""
PRAISE_QUESTIONS = (
    "What works in {it}?", "What is good about {it}?", "What are the strengths of {it}?",
    "What do you like about {it}?",
    "What is the best thing about {it}?", "Name the strengths.",
)  # fmt: skip
ANY_GOOD_QUESTIONS = (
    "Is there anything good about {it}?",
    "Is anything good about {it}?",
    "Does anything work in {it}?",
)
WHY_QUESTIONS = ("Why?", "Why is that?", "Why do you say that?", "How come?", "Can you explain that?", "Explain.")
MORE_QUESTIONS = ("What else?", "Anything else?", "Is that all?", "Tell me more.")
ATTRIBUTE_QUESTIONS = (
    "Analyze the {attribute} of {it}.", "Analyze the {attribute} of this image.", "Analyze the {attribute}.",
    "How is the {attribute}?", "How is the {attribute} of {it}?", "What about the {attribute}?", "And the {attribute}?",
    "Describe the {attribute}.", "Describe the {attribute} of {it}.", "What do you think of the {attribute}?",
)  # fmt: skip
ATTRIBUTE_WORDS = {
    "sharpness": ("sharpness", "sharpness", "focus", "detail"),
    "noise": ("noise", "noise", "grain"),
    "exposure": ("exposure", "exposure", "light", "lighting", "brightness"),
    "contrast": ("contrast",),
    "color": ("color", "colors", "color", "white balance"),
}
ATTRIBUTE_ADVICE_QUESTIONS = ("How can I improve the {attribute}?", "How could the {attribute} be better?")
# Question -> (attribute it asks about, answer when that is in order).
ATTRIBUTE_YES_NO: dict[str, tuple[str, bool]] = {
    "Is {it} sharp?": ("sharpness", True),
    "Is {it} in focus?": ("sharpness", True),
    "Is {it} blurry?": ("sharpness", False),
    "Is {it} soft?": ("sharpness", False),
    "Is the sharpness good?": ("sharpness", True),
    "Is the detail of {it} clear?": ("sharpness", True),
    "Is {it} clean?": ("noise", True),
    "Is {it} grainy?": ("noise", False),
    "Is {it} well exposed?": ("exposure", True),
    "Is the exposure of {it} right?": ("exposure", True),
    "Is the light good?": ("exposure", True),
    "Is the brightness of {it} right?": ("exposure", True),
    "Is the contrast of {it} good?": ("contrast", True),
    "Is {it} flat?": ("contrast", False),
    "Is {it} dull?": ("contrast", False),
    "Are the colors of {it} natural?": ("color", True),
    "Are the colors natural?": ("color", True),
    "Are the colors good?": ("color", True),
    "Is the white balance right?": ("color", True),
    "Is the color of {it} good?": ("color", True),
}
# Question -> (faults it asks about, answer when one of them is there).
YES_NO: dict[str, tuple[tuple[str, ...], bool]] = {
    "Is {it} clear?": (("defocus", "motion", "noise", "jpeg", "low resolution"), False),
    "Is {it} out of focus?": (("defocus",), True),
    "Is there motion blur in {it}?": (("motion",), True),
    "Is there camera shake in {it}?": (("motion",), True),
    "Is {it} noisy?": (("noise",), True),
    "Is there noise in {it}?": (("noise",), True),
    "Is {it} too dark?": (("underexposure",), True),
    "Is {it} underexposed?": (("underexposure",), True),
    "Is {it} too bright?": (("overexposure",), True),
    "Is {it} overexposed?": (("overexposure",), True),
    "Is the contrast of {it} too low?": (("low contrast",), True),
    "Does {it} have a color cast?": (("color cast",), True),
    "Is {it} tilted?": (("tilt",), True),
    "Is the horizon level?": (("tilt",), False),
    "Is {it} straight?": (("tilt",), False),
    "Are there compression artifacts in {it}?": (("jpeg",), True),
    "Is the resolution of {it} too low?": (("low resolution",), True),
    "Does {it} show vignetting?": (("vignetting",), True),
    "Are the corners of {it} dark?": (("vignetting",), True),
    "Are the verticals of {it} converging?": (("lens tilt",), True),
    "Are the highlights of {it} clipped?": (("clipped highlights", "overexposure"), True),
    "Are the colors of {it} over-saturated?": (("over-saturation",), True),
}
UNKNOWN_QUESTIONS: dict[str, tuple[str, ...]] = {
    "beauty": (
        "Is {it} beautiful?",
        "How beautiful is {it}?",
        "Is {it} art?",
        "Is {it} interesting?",
        "Is {it} creative?",
        "Is {it} pretty?",
        "What makes {it} beautiful?",
        "Is the style of {it} good?",
        "How original is {it}?",
        "Is {it} ugly?",
        "Is {it} attractive?",
        "Is {it} a masterpiece?",
        "Would {it} win a contest?",
    ),
    "people": (
        "Who is in {it}?",
        "Who is on {it}?",
        "Who is this?",
        "How many people are in {it}?",
        "Is she smiling?",
        "Is he happy?",
        "Who took {it}?",
        "What is the name of this person?",
        "How old is the person?",
        "Is this a man?",
        "Is there a person in {it}?",
        "Do you know who this is?",
        "What is she wearing?",
        "Are there any children?",
        "Is the portrait good?",
        "Are the eyes open?",
    ),
    "places": (
        "Where was {it} taken?",
        "When was {it} taken?",
        "Which country is this?",
        "What place is this?",
        "Which city is this?",
        "Is this Paris?",
        "Where is this?",
        "What time of day is it?",
        "Which season is it?",
        "Was {it} taken in the morning?",
        "Was it taken at night?",
        "Is {it} old?",
    ),
    "composition": (
        "Analyze the composition of {it}.",
        "How is the composition?",
        "Is {it} well composed?",
        "Is it well composed?",
        "How could I improve the composition?",
        "How can the composition be improved?",
        "Is the framing good?",
        "Does {it} follow the rule of thirds?",
        "What about the composition?",
        "Is the subject in the middle?",
        "How should I crop {it}?",
        "Is the perspective good?",
        "Is the background good?",
        "Is the crop right?",
        "Does {it} lead the eye?",
        "Is the subject cut off?",
        "Describe the composition.",
        "Is there too much space?",
        "Analyze the content of {it}.",
        "Are the borders cluttered?",
        "How is the balance of {it}?",
    ),
    "content": (
        "What is in {it}?",
        "What does {it} show?",
        "What is the subject of {it}?",
        "What is {it} about?",
        "Describe the contents of {it} in detail.",
        "What kind of animal is this?",
        "What is this?",
        "What do you see?",
        "Is there a dog in {it}?",
        "What color is the car?",
        "What is in the background?",
        "Is this a cat?",
        "What is written on the sign?",
        "Is there a tree in {it}?",
        "What objects are in {it}?",
        "Read the text.",
        "Name the objects.",
        "What happens in {it}?",
        "Is this food?",
        "Count the birds.",
        "What flower is this?",
    ),
    "feeling": (
        "What emotion does {it} express?",
        "What mood does {it} have?",
        "How does {it} make you feel?",
        "What story does {it} tell?",
        "Is {it} sad?",
        "Is {it} funny?",
        "What does {it} mean?",
        "What did the photographer feel?",
        "Does {it} touch people?",
    ),
    "other": (
        "What camera was used?",
        "Which lens was used?",
        "What is the price of {it}?",
        "How much is {it} worth?",
        "What is the capital of France?",
        "What is two and two?",
        "Write a poem.",
        "Tell me a joke.",
        "What is the weather like?",
        "Can you edit {it}?",
        "Translate this.",
        "What day is today?",
        "Who won the game?",
        "Can you make {it} better for me?",
        "Write a title for {it}.",
        "Give {it} a caption.",
        "Which filter was used?",
        "What should I eat?",
        "Do you love me?",
        "Who made you?",
        "What aperture was used?",
        "Is {it} a fake?",
    ),
}
HELLO_QUESTIONS = ("Hello!", "Hi!", "Hello.", "Hi there!", "Good morning!", "Hey!", "Hello, how are you?")
THANKS_QUESTIONS = ("Thanks!", "Thank you.", "Thank you very much!", "Thanks a lot.")
SELF_QUESTIONS = (
    "Who are you?",
    "What can you do?",
    "What are you?",
    "What is your name?",
    "Help!",
    "What can I ask you?",
)
