"""Time prompts with and without aesedge's matrix kernels, in turns.

CPU time of one thread, which other programs change less than the time on the clock.

python tests/measure/measure_kernels.py BUNDLE [--gguf TYPE] [--tokens 8,16,64] [--runs N]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from aesedge.bundle.bundle import open_bundle
from aesedge.llm import Context, LanguageModel
from aesedge.llm.accelerator import kernels


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--gguf", default="q4_k_m")
    parser.add_argument("--tokens", default="8,16,64")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    path = open_bundle(given.bundle).path("llm", given.gguf)
    with (
        LanguageModel(path, repack=False) as model,
        Context(model, n_ctx=768, n_seq_max=1, n_threads=1) as plain,
        Context(model, n_ctx=768, n_seq_max=1, n_threads=1, kernels=True) as own,
    ):
        print(f"{model.type_name}, kernels: {kernels().path or kernels().reason}; CPU seconds of one thread, medians")
        print(f"{'tokens':>6}  {'ggml':>9}  {'aesedge':>9}  ratio")
        for n in map(int, given.tokens.split(",")):
            tokens = np.random.default_rng(n).integers(300, model.n_vocab, n).tolist()
            found: dict[Context, list[float]] = {plain: [], own: []}
            for run in range(given.runs + 1):
                for context, seconds in found.items():
                    context.truncate(0, 0)
                    started = time.thread_time()
                    context.prefill_tokens(0, tokens)
                    if run or given.runs == 1:  # the first one reads the weights from disk
                        seconds.append(time.thread_time() - started)
            theirs, ours = (statistics.median(seconds) for seconds in found.values())
            print(f"{n:6}  {theirs:9.5f}  {ours:9.5f}  {theirs / ours:5.2f}", flush=True)


if __name__ == "__main__":
    main()
