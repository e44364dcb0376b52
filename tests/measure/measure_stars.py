"""Measure `aesedge stars`: how long sidecars of many photos take to be written, and to be taken back byte for byte.

    python tests/measure/measure_stars.py --photos 10000

Half of the photos have a sidecar of another program already. Photos are small files; nothing decodes them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from judged_library import contents, judge
from xmp_packets import FULL_PACKET

from aesedge.cli import main as aesedge


def main() -> None:
    """Write, write again, and undo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--embed", action="store_true", help="write into JPEGs instead")
    n = parser.parse_args().photos
    embed = ["--embed"] if parser.parse_args().embed else []
    with tempfile.TemporaryDirectory() as work:
        os.environ["AESEDGE_HOME"] = f"{work}/home"
        folder = Path(work) / "photos"
        suffix = "jpg" if embed else "CR3"
        judge(folder, {f"{i // 1000}/{i:05}.{suffix}": i % 100 / 10 for i in range(n)}, critique="Sharp. " * 30)
        for i in range(0, 0 if embed else n, 2):
            (folder / f"{i // 1000}/{i:05}.xmp").write_bytes(FULL_PACKET)
        before = contents(folder)
        for name, arguments in (
            ("written", [str(folder), *embed]),
            ("nothing new", [str(folder), *embed]),
            ("undone", ["--undo"]),
        ):
            began, cpu = time.perf_counter(), time.process_time()
            if aesedge(["stars", *arguments]) != 0:
                raise SystemExit(1)
            took, busy = time.perf_counter() - began, time.process_time() - cpu
            print(f"{n} photos, {name}: {took:.1f} s, {busy:.1f} s of CPU")
        print(f"byte for byte as before: {contents(folder) == before}")


if __name__ == "__main__":
    main()
