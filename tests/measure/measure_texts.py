"""Measure texts that are written side by side against one by one, both sides in turns in one run.

    python tests/measure/measure_texts.py BUNDLE [--texts 8] [--photos 4] [--tokens 64] [--image-tokens N] [--runs 2]

1. several texts over one photo in the KV cache, each with a question of its own, against one of them;
2. the critiques of several new photos at once, against one by one, from the file on.

Seconds on the clock, and of CPU time of all threads, which other programs change less. Medians. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from aesedge.engine.model import load_model
from aesedge.engine.report import ADVICE, ATTRIBUTE, FAULTS, STRENGTHS
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo

SUBJECTS = ("composition", "light", "colors", "content", "focus", "background", "contrast", "subject", "perspective")


class Took(NamedTuple):
    """What a call cost, in seconds."""

    clock: float
    cpu: float
    """Of all threads of this process."""


def questions(n: int) -> list[str]:
    """Return questions as a report asks them."""
    return [STRENGTHS, FAULTS, ADVICE, *(ATTRIBUTE.format(attribute=subject) for subject in SUBJECTS)][:n]


def seconds(work: Callable[[], object]) -> Took:
    """Return what a call costs."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - cpu)


def in_turns(runs: int, sides: dict[str, Callable[[], object]]) -> dict[str, Took]:
    """Return the medians of each side."""
    found: dict[str, list[Took]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, work in sides.items():
            found[name].append(seconds(work))
    return {name: Took(*map(statistics.median, zip(*rows, strict=True))) for name, rows in found.items()}


def cropped_photos(folder: Path, n: int) -> list[Path]:
    """Write different photos: parts of the samples."""
    paths = [folder / f"{i}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        with Image.open(SAMPLE_PHOTOS[i % len(SAMPLE_PHOTOS)]) as picture:
            picture.crop((8 * i, 4 * i, picture.width, picture.height)).save(path, quality=95)
    return paths


def texts(photo: Photo, n_texts: int, n_tokens: int, runs: int) -> dict[str, Took]:
    """Measure several texts over one photo."""
    asked = questions(n_texts)
    photo.ask_many(asked, max_tokens=2)  # pages of the file are read once

    def write(n: int) -> None:
        for answer in photo.ask_many(asked[:n], max_tokens=n_tokens):
            assert len(answer.tokens) == n_tokens, "a text ended early; take other weights, or fewer tokens"

    return in_turns(runs, {f"{n_texts} texts over a photo": lambda: write(n_texts), "1 text": lambda: write(1)})


def critiques(model: Model, paths: Sequence[Path], n_tokens: int, runs: int) -> dict[str, Took]:
    """Measure critiques of new photos."""

    def judge(at_once: int) -> None:
        for outcome in model.each(paths, lambda photo: photo.critique(max_tokens=n_tokens), at_once=at_once):
            assert outcome.error is None, outcome.error

    return in_turns(
        runs,
        {
            f"{len(paths)} photos one by one": lambda: judge(1),
            f"{len(paths)} photos side by side": lambda: judge(len(paths)),
        },
    )


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--gguf")
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--image-tokens", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-kernels", action="store_true")
    parser.add_argument("--runs", type=int, default=2)
    given = parser.parse_args()
    found: dict[str, Took] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = cropped_photos(Path(folder), given.photos)
        with load_model(
            given.bundle,
            gguf=given.gguf,
            image_tokens=given.image_tokens,
            threads=given.threads,
            kernels=not given.no_kernels,
            photos=max(1, given.photos),
            cache="0",
        ) as model:
            print(model.internals.plan)
            if given.texts:
                with model.look(SAMPLE_PHOTOS[0]) as photo:
                    found |= show(texts(photo, given.texts, given.tokens, given.runs))
            if given.photos:
                found |= show(critiques(model, paths, given.tokens, given.runs))
    print(json.dumps({name: took._asdict() for name, took in found.items()}))


def show(sides: dict[str, Took]) -> dict[str, Took]:
    """Print two sides and their ratio; return them."""
    for name, took in sides.items():
        print(f"{name:28} {took.clock:8.2f} s, {took.cpu:8.2f} s of CPU time")
    one, other = sides.values()
    print(f"{'ratio':28} {one.clock / other.clock:8.2f}    {one.cpu / other.cpu:8.2f}", flush=True)
    return sides


if __name__ == "__main__":
    main()
