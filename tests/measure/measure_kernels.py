"""Time prompts, or steps of texts side by side, with and without aesedge's matrix kernels, in turns.

CPU time of one thread, which other programs change less than the time on the clock.

python tests/measure/measure_kernels.py BUNDLE [--gguf TYPE] [--tokens 8,16,64] [--depth N] [--runs N]

With ``--depth`` a row decodes one token of each of so many texts, which continue one prefix of N positions.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import numpy.typing as npt

from aesedge.bundle.bundle import open_bundle
from aesedge.llm import Context, LanguageModel
from aesedge.llm.accelerator import kernels


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--gguf", default="q4_k_m")
    parser.add_argument("--tokens", default="8,16,64")
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    counts = [int(n) for n in given.tokens.split(",")]
    n_texts = max(counts) if given.depth else 0
    sizes = {"n_ctx": 768 + given.depth + n_texts, "n_seq_max": 1 + n_texts, "n_threads": 1}
    path = open_bundle(given.bundle).path("llm", given.gguf)
    with (
        LanguageModel(path, repack=False) as model,
        Context(model, **sizes) as plain,
        Context(model, **sizes, kernels=True) as own,
    ):
        print(f"{model.type_name}, kernels: {kernels().path or kernels().reason}; CPU seconds of one thread, medians")
        print(f"{'texts' if given.depth else 'tokens':>6}  {'ggml':>9}  {'aesedge':>9}  ratio")
        if given.depth:
            own.prefill_tokens(0, drawn(model, given.depth))
            plain.restore(0, own.save(0), given.depth)
        for n in counts:
            found: dict[Context, list[float]] = {plain: [], own: []}
            for run in range(given.runs + 1):
                for context, seconds in found.items():
                    took = step(context, n) if given.depth else prompt(context, drawn(model, n))
                    if run or given.runs == 1:  # the first one reads the weights from disk
                        seconds.append(took)
            theirs, ours = (statistics.median(seconds) for seconds in found.values())
            print(f"{n:6}  {theirs:9.5f}  {ours:9.5f}  {theirs / ours:5.2f}", flush=True)


def drawn(model: LanguageModel, n: int) -> list[int]:
    """Return n random tokens, always the same."""
    tokens: npt.NDArray[np.int64] = np.random.default_rng(n).integers(300, model.n_vocab, n)
    return tokens.tolist()


def prompt(context: Context, tokens: list[int]) -> float:
    """Return the seconds of a prompt."""
    context.truncate(0, 0)
    started = time.thread_time()
    context.prefill_tokens(0, tokens)
    return time.thread_time() - started


def step(context: Context, n: int) -> float:
    """Return the seconds of one token for each of n texts that continue sequence 0."""
    seq_ids = range(1, n + 1)
    for seq_id in seq_ids:
        context.fork(0, seq_id)
    started = time.thread_time()
    context.append([(seq_id, [300 + seq_id]) for seq_id in seq_ids], [True] * n)
    took = time.thread_time() - started
    for seq_id in seq_ids:
        context.truncate(seq_id, 0)
    return took


if __name__ == "__main__":
    main()
