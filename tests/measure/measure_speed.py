"""Measure a new photo's way to its score against llama.cpp by itself: ratios, both sides in turns in one run.

    python tests/measure/measure_speed.py BUNDLE MMPROJ [--runs 3] [--tokens 144,64] [--photos 30] [--threads N]

BUNDLE is opened with the settings that a user gets (tuned if it was tuned, see ``aesedge tune``); llama.cpp by itself
is libmtmd of the installed llama-cpp-python with the same GGUF file, at its own defaults, once with MMPROJ (an image
encoder of the same shape). Each run takes photos that neither side has seen.

1. a new photo to the rating of the score question, with all image tokens and with fewer, against libmtmd's prompt of
   the same text (all tokens: it cannot do with fewer);
2. many photos in a row with the fewest tokens, the score question alone, against as many a minute of those prompts;
3. prefill and decode through aesedge's scheduler against the calls of llama-bench at the same settings.

Medians. Not in the times: loading, and the text before the image on our side, which is prefilled once when the model is
loaded; libmtmd reads it with every photo, as its tools do. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from aesedge_export.llama_cpp_pair.mtmd_process import MARKER, MtmdProcess, MtmdSettings
from PIL import Image

from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.engine.model import Model, load_model
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.scheduling.requests import DecodeTokens, Job, PrefillEmbeddings, Reserve

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ("decode_image_s", "vision_s", "prefill_s")
N_DECODED, N_TURNS = 8, 5
"""Tokens that each side decodes in a turn, and turns for each run: a machine's speed changes from second to second."""


def new_photos(folder: Path) -> Iterator[Path]:
    """Write photos that nobody has seen: parts of the samples, of the samples' size."""
    rng = np.random.default_rng()
    for n in itertools.count():
        with Image.open(SAMPLE_PHOTOS[n % len(SAMPLE_PHOTOS)]) as picture:
            left, top = (int(rng.integers(side // 8)) for side in picture.size)
            part = picture.crop((left, top, left + picture.width * 7 // 8, top + picture.height * 7 // 8))
            path = folder / f"{n}.jpg"
            part.resize(picture.size).save(path, quality=95)
            yield path


def ours(model: Model, photo: Path, n_image_tokens: int) -> dict[str, float]:
    """Score a new photo; returns the parts of the time, and the whole."""
    started = time.perf_counter()
    with model.look(photo, image_tokens=n_image_tokens) as seen:
        seen.score()
        took = time.perf_counter() - started
        assert seen.cache_state == "cold"
        return {part: getattr(seen.timings, part) for part in PARTS} | {"total_s": took}


def theirs(peer: MtmdProcess, photo: Path, text: str) -> dict[str, float]:
    """Let llama.cpp read the same prompt; returns the parts of the time, and the whole."""
    found = peer.prompt(photo, text)
    return {part: getattr(found, part) for part in PARTS} | {"total_s": found.total_s}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of every column."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def photos_to_score(
    model: Model, peer: MtmdProcess, photos: Iterator[Path], budgets: list[int], runs: int
) -> dict[str, dict[str, float]]:
    """Measure single photos."""
    m = model.manifest
    text = model.internals.template.before_image + MARKER + model.internals.template.after_image(m.rating.question)
    rows: dict[str, list[dict[str, float]]] = {"llama.cpp": [], **{f"{n} image tokens": [] for n in budgets}}
    theirs(peer, next(photos), text)  # pages of the files are read once
    ours(model, next(photos), budgets[-1])
    for _ in range(runs):
        rows["llama.cpp"].append(theirs(peer, next(photos), text))
        for n in budgets:
            rows[f"{n} image tokens"].append(ours(model, next(photos), n))
    return {name: medians(found) for name, found in rows.items()}


def in_a_row(options: dict[str, object], bundle: str, photos: list[Path], n_image_tokens: int) -> float:
    """Return photos a minute."""
    with load_model(bundle, image_tokens=n_image_tokens, **options) as model:
        started = time.perf_counter()
        n_done = sum(1 for _ in model.score_many(photos, attributes=False))
        return 60 * n_done / (time.perf_counter() - started)


def engine_seconds(model: Model, n_rows: int, n_tokens: int) -> float:
    """Prefill rows, or decode tokens one by one, into an empty sequence, as work for the scheduler."""
    sequences = model.internals.sequences
    rows = np.full((n_rows, model.internals.llm.n_embd), 0.01, np.float32)

    def work() -> Job[float]:
        (seq_id,) = yield Reserve(1, n_rows + n_tokens)
        try:
            started = time.perf_counter()
            if n_rows:
                yield PrefillEmbeddings([(seq_id, rows)])
            for token in range(3, 3 + n_tokens):
                yield DecodeTokens([(seq_id, (token,))])
            return time.perf_counter() - started
        finally:
            sequences.release([seq_id])

    return model.internals.scheduler.submit(work()).wait()


def rates(model: Model, llm: Path, options: Options, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Return seconds of the engine and of llama-bench's calls, in pairs."""
    plan, n = make_plan(options, model.bundle), model.n_image_tokens
    settings = MtmdSettings(repack=plan.repack, flash_attention=plan.flash_attention, n_ubatch=plan.n_ubatch)
    found: dict[str, list[tuple[float, float]]] = {f"pp{n}": [], f"tg{N_DECODED}": []}
    with MtmdProcess(None, llm, n_threads=plan.threads, settings=settings) as peer:
        peer.llama_bench(16, 1)
        for _ in range(runs):
            found[f"pp{n}"].append((engine_seconds(model, n, 0), peer.llama_bench(n, 0).prompt_s))
            for _ in range(N_TURNS):
                theirs_s = peer.llama_bench(0, N_DECODED).generate_s
                found[f"tg{N_DECODED}"].append((engine_seconds(model, 0, N_DECODED), theirs_s))
    return found


def show_rates(found: dict[str, list[tuple[float, float]]]) -> None:
    """Print rates, and the median ratio of the pairs."""
    for name, pairs in found.items():
        n = int(name[2:])
        engine, bench = (n / statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(theirs_s / ours_s for ours_s, theirs_s in pairs)
        print(f"{name}: {engine:.2f} tokens/s, llama-bench's calls {bench:.2f}  {ratio:5.3f} x ({len(pairs)} pairs)")


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tokens", default="144,64")
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--only-rates", action="store_true", help="leave out 1 and 2")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = new_photos(Path(folder))
        options: dict[str, object] = {"cache": "0", "purpose": "score", "threads": given.threads}
        with load_model(given.bundle, **options) as model:
            chosen = Options(**options)  # type: ignore[arg-type]
            plan, llm = make_plan(chosen, model.bundle), model.bundle.path("llm", model.gguf)
            budgets = [model.n_image_tokens, *map(int, given.tokens.split(","))]
            print(f"{plan}\n")
            if not given.only_rates:
                with MtmdProcess(given.mmproj, llm, n_threads=plan.threads_batch) as peer:
                    single = photos_to_score(model, peer, photos, budgets, given.runs)
            show_rates(rates(model, llm, chosen, given.runs))
        if given.only_rates:
            return
        a_minute = in_a_row(options, given.bundle, list(itertools.islice(photos, given.photos)), budgets[-1])
    reference = single["llama.cpp"]["total_s"]
    for name, row in single.items():
        parts = ", ".join(f"{part[:-2].replace('_', ' ')} {row[part]:.2f}" for part in PARTS)
        print(f"{name:18} {row['total_s']:7.2f} s ({parts})  {reference / row['total_s']:5.2f} x")
    ratio = a_minute * reference / 60
    print(f"{given.photos} photos, {budgets[-1]} tokens: {a_minute:.1f} a minute, {60 / reference:.2f}  {ratio:5.2f} x")
    print(json.dumps({"photos": single, "a_minute": a_minute, "plan": str(plan)}))


if __name__ == "__main__":
    main()
