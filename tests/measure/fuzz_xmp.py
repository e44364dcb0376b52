"""Edit random XMP packets in every spelling, and check after each edit that no foreign byte has changed.

    python tests/measure/fuzz_xmp.py --edits 50000

Each edit of a packet is also made twice, and taken back; what fails is shrunk and printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
from xmp_packets import N_EDITS_OF_LAWS, Piece, changes, check_laws, packets

_PER_PACKET = 10


def main() -> None:
    """Run as many edits as were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    n_done = 0

    @seed(chosen.seed)
    @settings(
        max_examples=-(-chosen.edits // (_PER_PACKET * N_EDITS_OF_LAWS)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(packets(), st.lists(changes(), min_size=_PER_PACKET, max_size=_PER_PACKET))
    def check(packet: Piece, several: list[dict[Any, Any]]) -> None:
        nonlocal n_done
        for wanted in several:
            check_laws(packet, wanted)
            n_done += N_EDITS_OF_LAWS

    began = time.perf_counter()
    check()
    print(f"{n_done} edits in {time.perf_counter() - began:.0f} s, no foreign byte changed")


if __name__ == "__main__":
    main()
