"""Check that every text a bundle writes is well formed: critique, report, answers, conversation.

    python -m aesedge_export.pocket.well_formed --bundle pocket PHOTO|DIR...

Each photograph is asked about as it is, and with a strong fault. Prints the share of well formed texts for each path on
which text comes out, then each text that is not, and why. It asks a bundle through aesedge's public API; whether a text
is true is measured elsewhere (figures.py).
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from aesedge_export.questions import OPTIONS

from aesedge import GenerationOptions

from . import phrases, questions
from .faults import FAULTS, STRONG, fit, spoil
from .figures import interval
from .judgement import draw_judgement
from .talk import conversation, drill

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from PIL import Image

    from aesedge import Model
    from aesedge.image import ImageSource

QUESTIONS = (
    "How could I improve this photo?",
    "How can the aesthetic quality of this image be improved?",
    "What should I do differently next time?",
    "Give me three tips.",
    "Should I take the photo again?",
    "Is it sharp?",
    "Is this photo sharp?",
    "Is this image blurry?",
    "Is it in focus?",
    "Is it too dark?",
    "Is this image too bright?",
    "Is this photo noisy?",
    "Is the horizon level?",
    "Is this photo well exposed?",
    "Are the colors natural?",
    "Is the white balance right?",
    "Is the contrast of this image too low?",
    "Is it well composed?",
    "Is this a good photo? Answer with yes or no.",
    "Would you keep this photo?",
    "What is the main fault?",
    "What is the main fault of this photo?",
    "What is wrong with this photo?",
    "What are the faults of this image?",
    "What works in this photo?",
    "What are the strengths of this image?",
    "What do you like about it?",
    "What do you think of this photo?",
    "Describe this image.",
    "Describe the light.",
    "Describe this photo in one sentence.",
    "Describe this photo in one word.",
    "Rate this photo from 1 to 10.",
    "Analyze the composition of this image.",
    "Analyze the sharpness.",
    "What does this photo show?",
    "Who is in this photo?",
    "Why?",
    "Hello!",
    f"How good is this photo?{OPTIONS}",
    "What is wrong? Choose one:\nA) Motion blur\nB) Noise\nC) Tilt\nD) No clear fault\nAnswer with the letter only.",
)
"""What people usually ask (``--ask``), in the words of the training and in others."""
TALKS = (
    ("Describe this image.", "Why?", "How can this photo be improved?"),
    ("Is this photo sharp?", "Why?", "And the colors?"),
    ("What is the main fault of this photo?", "What should I do better next time?", "Is there anything good about it?"),
)
"""Conversations of three turns (``aesedge chat``)."""

_ENGLISH = Path(__file__).with_name("english.txt")
"""Plain words that a critique may hold beside those that were taught."""
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_GLUED = re.compile(r"[.!?,;:][^\W\d_]")  # "straight.tical"
_REPEATED = re.compile(r"\b(\w+(?:[^\w.!?]+\w+){0,7}?)(?:[^\w.!?]+\1\b)+", re.IGNORECASE)
_OPTION = re.compile(r"^\(?([A-Z])[).:] *(.+?) *$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?]) +")


@dataclass(frozen=True)
class Text:
    """One text that a bundle wrote, and what is wrong with its form."""

    photo: str
    path: str
    """Where it came out: ``critique``, ``report: <field>``, ``ask``, ``chat, turn <n>``."""
    question: str
    text: str
    defects: list[str]
    """Empty if the text is well formed."""


@cache
def taught_words() -> frozenset[str]:
    """Return the words of everything that pocket is taught to say or is asked, in lower case."""
    rng = np.random.default_rng(0)
    texts = [*_strings([vars(phrases), vars(questions)])]
    for n in range(400):
        judgement = draw_judgement(rng, n % 4)
        talk = [*conversation(judgement, rng), *drill(judgement, rng)]
        texts += [text for turn in talk for text in turn]
    return frozenset(word.lower() for text in texts for word in _WORD.findall(text))


@cache
def default_words() -> frozenset[str]:
    """Return the words of what was taught and of a short list of plain English, in lower case."""
    return taught_words() | frozenset(_ENGLISH.read_text("utf-8").split())


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not str(key).startswith("_"):
                yield from _strings(key)
                yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def defects(text: str, question: str = "", *, ended: bool = True, words: Collection[str] | None = None) -> list[str]:
    """Return what is wrong with the form of a text, nothing if it is well formed.

    Args:
        text: as it is shown.
        question: what was asked; if it lists options ("A) High"), one of them is an answer, with or without its end.
        ended: whether the model ended the text itself.
        words: what counts as a word, in lower case; :func:`default_words` if not given.
    """
    if not text.strip():
        return ["empty"]
    found = [] if ended else ["does not end"]
    if text != text.strip() or re.search(r"\s{2}|\s[.!?,;:]", text):
        found.append("space out of place")
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f\ufffd]", text):
        found.append("half or control character")
    if not text[0].isupper():
        found.append("begins with no capital")
    if text.rstrip(".") not in _options(question) and not re.search(r"[.!?]['\")]?$", text):
        found.append("ends without a full stop")
    found += [f"glued: {text[max(0, m.start() - 12) : m.end() + 12]!r}" for m in _GLUED.finditer(text)]
    found += [f"small letter after a sentence: {s[:24]!r}" for s in _SENTENCE_END.split(text)[1:] if s[:1].islower()]
    found += [f"a sentence twice: {s!r}" for s, n in Counter(_SENTENCE_END.split(text)).items() if n > 1]
    said = _OPTION.sub(r"\2", text)
    found += [f"a loop: {match[0][:40]!r}" for match in _REPEATED.finditer(said)]
    valid = default_words() if words is None else words
    asked = {word.lower() for options in _OPTION.findall(question) for word in _WORD.findall(options[1])}
    unknown = [word for word in _WORD.findall(said) if not _is_word(word.lower(), valid, asked)]
    return found + [f"no word: {word!r}" for word in dict.fromkeys(unknown)]


def _is_word(word: str, *lists: Collection[str]) -> bool:
    word = word.replace("\u2019", "'").removesuffix("'s")
    return any(word in words for words in lists) or (
        "-" in word and all(any(part in words for words in lists) for part in word.split("-"))
    )


def _options(question: str) -> set[str]:
    """Return every way to choose one of the options that a question lists."""
    pairs = _OPTION.findall(question)
    return {way for letter, text in pairs for way in (letter, f"{letter})", text, f"{letter}) {text}")}


def write_texts(
    model: Model, source: ImageSource, name: str, options: GenerationOptions
) -> Iterator[tuple[str, str, str, bool]]:
    """Have a bundle write on every path about one photo.

    Yields:
        path, question, text, whether the model ended it.
    """
    with model.look(source, name=name) as photo:
        critique = photo.critique(options)
        yield "critique", model.manifest.prompt.critique, critique.text, critique.finish_reason == "stop"
        report = photo.report(options)
        fields = {**report.attributes, "strengths": " ".join(report.strengths), "faults": " ".join(report.faults)}
        for field, text in {**fields, "advice": report.advice}.items():
            yield f"report: {field}", "", text, True  # what does not end by itself is cut at a sentence there
        for question in QUESTIONS:
            answer = photo.ask(question, options)
            yield "ask", question, answer.text, answer.finish_reason == "stop"
        for talk in TALKS:
            with photo.conversation() as conversation_:
                for turn, question in enumerate(talk, 1):
                    answer = conversation_.ask(question, options)
                    yield f"chat, turn {turn}", question, answer.text, answer.finish_reason == "stop"


def with_spoilt(photos: Iterable[tuple[str, Image.Image]]) -> Iterator[tuple[str, Image.Image]]:
    """Yield each picture, its long side at 480 pixels, and a copy with a strong fault, another one for each."""
    for number, (name, picture) in enumerate(photos):
        clean, fault = fit(picture), FAULTS[number % len(FAULTS)]
        yield name, clean
        yield f"{name}, {fault}", spoil(clean, {fault: STRONG}, np.random.default_rng(number))


def check_texts(
    model: Model,
    photos: Iterable[tuple[str, ImageSource]],
    *,
    words: Collection[str] | None = None,
    options: GenerationOptions | None = None,
) -> list[Text]:
    """Have a bundle write on every path about photographs, and check each text.

    Args:
        model: an open bundle.
        photos: name and picture of each.
        words: as in :func:`defects`.
        options: how each text is written.
    """
    return [
        Text(name, path, question, text, defects(text, question, ended=ended, words=words))
        for name, source in photos
        for path, question, text, ended in write_texts(model, source, name, options or GenerationOptions())
    ]


def shares(texts: Sequence[Text]) -> dict[str, dict[str, float]]:
    """Return the share of well formed texts of each path, and of all; 95 % intervals over the photographs."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for text in texts:
        for path in (text.path, "all"):
            found[path].append((float(not text.defects), text.photo))
    return {path: interval(*zip(*values, strict=True)) for path, values in sorted(found.items())}


def print_texts(texts: Sequence[Text], *, most: int = 100) -> None:
    """Print the share of each path, then every text that is not well formed, once, the most frequent first."""
    print(f"{'path':28} {'texts':>6} {'well formed':>12}")
    for path, share in shares(texts).items():
        print(f"{path:28} {share['n']:6.0f} {100 * share['value']:10.1f} %")
    failed = Counter((t.path, t.question, t.text, *t.defects) for t in texts if t.defects)
    for (path, question, text, *found), n in failed.most_common(most):
        print(f"\n{n} x {path}{f', {question!r}' if question else ''}\n  {text!r}\n  {'; '.join(found)}")
    if len(failed) > most:
        print(f"\nand {len(failed) - most} more (--out FILE.json keeps all)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path, help="photographs, or folders of them")
    parser.add_argument("--bundle", required=True, help="bundle name or folder")
    parser.add_argument("--gguf", help="type of the bundle's language model")
    parser.add_argument("--limit", type=int, help="stop after this many photographs")
    parser.add_argument("--words", type=Path, help="file of more words, separated by white space")
    parser.add_argument("--out", type=Path, help="JSON file of every text")
    options = parser.parse_args(arguments)
    import aesedge
    from aesedge.image import read_image
    from aesedge.image.find_photos import photos_in

    paths = [path for given in options.photos for path in (photos_in(given) if given.is_dir() else [given])]
    words = default_words()
    if options.words:
        words |= frozenset(options.words.read_text("utf-8").lower().split())
    with aesedge.load_model(options.bundle, **({"gguf": options.gguf} if options.gguf else {})) as model:
        pictures = with_spoilt((path.name, read_image(path)) for path in paths[: options.limit])
        texts = check_texts(model, pictures, words=words)
    print_texts(texts)
    if options.out:
        options.out.write_text(json.dumps([asdict(text) for text in texts], indent=1, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main()
