"""Time from process start to exit of what users wait for; run as ``make startup``.

Prints the median of fresh processes, the commands in turns. Included: starting Python, importing, loading the bundle.
Excluded: reading the disk for the first time (one round warms it up).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from aesedge.samples import SAMPLE_PHOTOS

N_ROUNDS = 11
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import numpy' (for comparison)": [sys.executable, "-c", "import numpy"],
    "python -c 'import aesedge'": [sys.executable, "-c", "import aesedge"],
    "aesedge --version": [sys.executable, "-m", "aesedge", "--version"],
    "aesedge score photo.jpg (pocket)": [sys.executable, "-m", "aesedge", "score", str(SAMPLE_PHOTOS[0])],
    "aesedge run photo.jpg (pocket)": [sys.executable, "-m", "aesedge", "run", str(SAMPLE_PHOTOS[0])],
}


def main() -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for n in range(N_ROUNDS + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if n > 0:
                seconds[name].append(time.perf_counter() - started)
    width = max(map(len, COMMANDS))
    print(f"{'process start to exit':<{width}}  median of {N_ROUNDS}   slowest")
    for name, values in seconds.items():
        print(f"{name:<{width}}  {statistics.median(values):10.3f} s  {max(values):6.3f} s")


if __name__ == "__main__":
    main()
