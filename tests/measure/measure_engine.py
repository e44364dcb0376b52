"""Measure what reuse and batching save on a bundle: ratios, both sides in turns in one run.

    python tests/measure/measure_engine.py BUNDLE [--runs 3] [--tokens 64] [--gguf TYPE] [--threads N]

1. another question on a photo that is in the cache, against prefilling its own tokens after the text prefix alone;
2. five ratings together, against one after the other, with the settings for scores;
3. five answers together, against one after the other (cut at ``--tokens``; random weights go on for so long);
4. a question about a photo in a new model, from the file to the first token of the answer: with its embeddings kept,
   and with its KV pinned, against the same photo cold.

Medians. Not in the times: loading the bundle, decoding the photo's file is. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.engine.generation_options import GenerationOptions
from aesedge.engine.model import Model, load_model
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.scheduling.requests import DecodeTokens, Job, Reserve

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.engine.photo import Photo

QUESTION = "Describe the light of this image, and what the photographer could do better next time."


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def interleaved(runs: int, **sides: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each side; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, work in sides.items():
            times[name].append(seconds(work))
    return {name: statistics.median(found) for name, found in times.items()}


def own_tokens(model: Model, n_tokens: int) -> None:
    """Prefill so many tokens after the text prefix, with no image before them."""
    sequences = model.internals.sequences

    def work() -> Job[None]:
        (seq_id,) = yield Reserve(1, n_tokens)
        try:
            sequences.context.fork(sequences.prefix_seq_id, seq_id)
            yield DecodeTokens([(seq_id, np.arange(3, 3 + n_tokens).tolist())])
        finally:
            sequences.release([seq_id])

    model.internals.scheduler.submit(work()).wait()


def questions_of(model: Model) -> list[str]:
    """Return five questions."""
    rating = model.manifest.rating
    return [rating.question, *rating.attributes.values()][:5]


def ratings(model: Model, photo: Photo, runs: int) -> dict[str, dict[str, float]]:
    """Measure scores."""
    questions = questions_of(model)
    return {
        "five ratings": interleaved(
            runs, measured=lambda: photo.rate(questions), reference=lambda: [photo.rate([q]) for q in questions]
        )
    }


def texts(model: Model, photo: Photo, runs: int, n_tokens: int) -> dict[str, dict[str, float]]:
    """Measure answers."""
    questions = questions_of(model)
    long, one = GenerationOptions(max_tokens=n_tokens), GenerationOptions(max_tokens=1)
    n_own = len(photo._tokens(QUESTION))
    return {
        "another question": interleaved(
            runs, measured=lambda: photo.ask(QUESTION, one), reference=lambda: own_tokens(model, n_own)
        ),
        "five answers": interleaved(
            max(1, runs // 2),
            measured=lambda: photo.ask_many(questions, long),
            reference=lambda: [photo.ask(question, long) for question in questions],
        ),
    }


def reopened(bundle: str, options: dict[str, Any], runs: int) -> dict[str, dict[str, float]]:
    """Measure a photo that an earlier process has seen; in every round it is first seen by none."""

    def answer(folder: str, *, pin: bool = False) -> tuple[float, float, str]:
        with load_model(bundle, cache_folder=Path(folder), **options) as model:
            before = time.perf_counter()
            with model.look(SAMPLE_PHOTOS[0]) as photo:
                photo.ask(QUESTION, max_tokens=1)
                took = time.perf_counter() - before
                if pin:
                    photo.pin()
                return took, photo.timings.vision_s, photo.cache_state

    rounds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append([answer(folder), answer(folder, pin=True), answer(folder)])
        assert [state for _, _, state in rounds[-1]] == ["cold", "embeddings", "kv"]
    cold, kept, pinned = (statistics.median(of_one[i][0] for of_one in rounds) for i in range(3))
    vision_s = max(of_one[1][1] for of_one in rounds)
    return {
        "embeddings kept": {"measured": kept, "reference": cold, "vision_s": vision_s},
        "kv pinned": {"measured": pinned, "reference": cold},
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure reuse and batching.")
    parser.add_argument("bundle")
    parser.add_argument("--runs", type=int, default=3, help="rounds; five answers take half as many")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--only-ratings", action="store_true", help="leave out 1, 3 and 4")
    parser.add_argument("--gguf")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    options = {"gguf": given.gguf, "threads": given.threads, "worth_keeping_s": 0.0}
    found = {} if given.only_ratings else reopened(given.bundle, options, given.runs)
    with tempfile.TemporaryDirectory() as folder:
        options["cache_folder"] = Path(folder)
        with load_model(given.bundle, purpose="score", **options) as model, model.look(SAMPLE_PHOTOS[0]) as photo:
            found |= ratings(model, photo, given.runs)
        if not given.only_ratings:
            with load_model(given.bundle, **options) as model, model.look(SAMPLE_PHOTOS[0]) as photo:
                found |= texts(model, photo, given.runs, given.tokens)
    for name, row in found.items():
        print(
            f"{name:<17} {row['measured']:8.3f} s, reference {row['reference']:8.3f} s, "
            f"ratio {row['measured'] / row['reference']:.3f}"
        )
    if not given.only_ratings:
        print(f"vision tower with embeddings kept: {found['embeddings kept']['vision_s']:.3f} s")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
