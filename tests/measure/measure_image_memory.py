"""Measure the peak memory of decoding pictures of every format at their largest, beside the estimate made before.

    python tests/measure/measure_image_memory.py [--only TEXT]

tests/image/test_image_memory.py proves the same at 1,600 pixels a side in seconds; here pictures have the 2**28 pixels
or the 256 MiB that aesedge reads at most, or what Pillow allows (WebP), or the largest whose encoder ends within a
minute or two (AVIF, JPEG 2000, RAW). Each is decoded in a process of its own. Whatever the machine has too little
free memory for is refused in one line, which is shown. The exit code is 1 if a peak was above its estimate.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "image"))

from image_files import dng, encoded, mosaic_of, scene
from test_image_memory import CASES, MEASURE, TIFF_KINDS, raster
from tiff_files import Kind, tiff

LARGEST = 16_384
SIDES = {"BMP": 9_400, "PPM": 9_400, "TGA": 8_100, "WEBP": 13_377, "JPEG2000": 8_192, "AVIF": 8_192}
"""BMP, PPM and TGA: 256 MiB. WebP: Pillow's own limit of pixels, which its decoder asks about."""
RAW_SIDE = 8_000


def tiff_side(kind: Kind) -> int:
    """Return what makes 250 MiB where nothing is compressed, 8,192 with Deflate."""
    if kind.compression == 8:
        return 8_192
    n_bytes = (3 if kind.photometric == 2 else 1) * kind.bits / 8
    side = int((250 * 2**20 / n_bytes) ** 0.5)
    return side - side % kind.tile[0] if kind.tile else side


def pictures() -> dict[str, tuple[int, object]]:
    """Return name to the side in pixels and what makes the file's bytes."""
    made: dict[str, tuple[int, object]] = {}
    for name, (format_, mode, color, options) in CASES.items():
        side = SIDES.get(format_, LARGEST)
        made[name] = (
            side,
            lambda a=(format_, mode, color, options, side): encoded(Image.new(a[1], (a[4], a[4]), a[2]), a[0], **a[3]),
        )
    for kind in TIFF_KINDS:
        side = tiff_side(kind)
        made[f"TIFF {kind}"] = side, lambda kind=kind, side=side: tiff(raster(kind, side), kind)
    made["RAW"] = RAW_SIDE, lambda: dng(mosaic_of((500, 1000, 800), RAW_SIDE, RAW_SIDE))
    return made


def main() -> int:
    """Make, decode, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pictures whose name holds this")
    given = parser.parse_args()
    n_above = 0
    print(f"{'':60}{'pixels a side':>14}{'file, MiB':>10}{'estimate':>10}{'peak, GiB':>10}{'seconds':>9}")
    for name, (side, make) in pictures().items():
        if given.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            small, large = Path(folder) / "small.png", Path(folder) / "large"
            small.write_bytes(encoded(scene(), "PNG"))
            large.write_bytes(make())  # type: ignore[operator]
            n_mib = large.stat().st_size / 2**20
            began = time.monotonic()
            command = [sys.executable, "-c", MEASURE, str(small), str(large)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            took = time.monotonic() - began
        if done.returncode:
            print(f"{name[:59]:60}{side:14,}{n_mib:10.1f}  {done.stderr.strip().splitlines()[-1]}", flush=True)
            n_above += "ImageTooLargeError" not in done.stderr
            continue
        peak, estimate = (int(n) / 2**30 for n in done.stdout.split())
        n_above += peak > estimate
        mark = "  ABOVE" if peak > estimate else ""
        print(f"{name[:59]:60}{side:14,}{n_mib:10.1f}{estimate:10.2f}{peak:10.2f}{took:9.1f}{mark}", flush=True)
    return 1 if n_above else 0


if __name__ == "__main__":
    sys.exit(main())
