"""Time the structured report: model loaded, image in the KV cache.

python tests/measure/measure_report.py [--bundle pocket] [--rounds 30]
"""

from __future__ import annotations

import argparse
import statistics
import time

from aesedge.engine.model import load_model
from aesedge.samples import SAMPLE_PHOTOS


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    seconds: list[float] = []
    with load_model(given.bundle) as model:
        for path in SAMPLE_PHOTOS:
            with model.look(path) as photo:
                photo.report()  # brings the image into the KV cache
                n_before = photo.timings.n_generated
                for _ in range(given.rounds):
                    started = time.perf_counter()
                    photo.report()
                    seconds.append(time.perf_counter() - started)
                n_tokens = (photo.timings.n_generated - n_before) / given.rounds
            print(f"{path.name}: {n_tokens:.0f} tokens")
    print(f"report: median {statistics.median(seconds) * 1e3:.1f} ms, fastest {min(seconds) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
