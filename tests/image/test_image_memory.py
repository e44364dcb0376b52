"""The memory that decoding takes stays below its estimate, and the estimate below a part of what is free.

tests/measure/measure_image_memory.py proves the first at the largest pictures that are read.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_errors import error_of
from image_files import dng, encoded, mosaic_of, scene
from PIL import Image
from tiff_files import Kind, tiff

import aesedge.image.memory as image_memory
from aesedge.errors import ImageTooLargeError
from aesedge.image import read_image
from aesedge.image.memory import PART_OF_FREE, SMALL_BYTES, MemoryBudget

SIDE = 1600
RED = (200, 50, 20)

MEASURE = """
import sys
from aesedge.image import read_image
from aesedge.image.memory import MemoryBudget

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

estimates = []
reserved = MemoryBudget.reserved

def note(self, n_bytes, what):
    estimates.append(n_bytes)
    return reserved(self, n_bytes, what)

read_image(sys.argv[1])  # what is loaded once does not count
MemoryBudget.reserved = note
before = peak()
read_image(sys.argv[2])
print(peak() - before, *estimates)
"""


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


CASES: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "PNG": ("PNG", "RGB", RED, {}),
    "PNG with alpha": ("PNG", "RGBA", (*RED, 99), {}),
    "PNG of 16 bits": ("PNG", "I;16", 900, {}),
    "PNG, turned": ("PNG", "RGB", RED, {"exif": turned()}),
    "JPEG": ("JPEG", "RGB", RED, {}),
    "JPEG, progressive": ("JPEG", "RGB", RED, {"progressive": True, "subsampling": 0}),
    "JPEG, CMYK": ("JPEG", "CMYK", (*RED, 1), {}),
    "WebP": ("WEBP", "RGB", RED, {}),
    "WebP with alpha": ("WEBP", "RGBA", (*RED, 99), {"lossless": True, "quality": 0, "method": 0}),
    "GIF": ("GIF", "P", 3, {}),
    "BMP": ("BMP", "RGB", RED, {}),
    "PPM": ("PPM", "RGB", RED, {}),
    "TGA with alpha": ("TGA", "RGBA", (*RED, 99), {}),
    "TIFF, LZW": ("TIFF", "RGBA", (*RED, 99), {"compression": "tiff_lzw"}),
    "TIFF of floats": ("TIFF", "F", 0.5, {"compression": "tiff_adobe_deflate"}),
    "JPEG 2000": ("JPEG2000", "RGBA", (*RED, 99), {}),
    "AVIF": ("AVIF", "RGBA", (*RED, 99), {"speed": 10}),
}

TIFF_KINDS = [
    Kind(bits=16, photometric=2, compression=8, rows_per_strip=SIDE),
    Kind(bits=16, photometric=2, compression=32773, rows_per_strip=SIDE),
    Kind(bits=32, photometric=2, planar=True, rows_per_strip=100),
    Kind(bits=16, photometric=2, tile=(1024, 1024)),
    Kind(bits=12, photometric=1, rows_per_strip=SIDE),
]


def assert_within_estimate(data: bytes, folder: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    small, large = folder / "small.png", folder / "large"
    small.write_bytes(encoded(scene(), "PNG"))
    large.write_bytes(data)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, estimate = map(int, done.stdout.split())
    assert SIDE * SIDE < peak <= estimate


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_decoding_stays_below_the_estimate(case: tuple[str, str, Any, dict[str, Any]], tmp_path: Path) -> None:
    format_, mode, color, options = case
    assert_within_estimate(encoded(Image.new(mode, (SIDE, SIDE), color), format_, **options), tmp_path)


def test_raw_stays_below_the_estimate(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    assert_within_estimate(dng(mosaic_of((500, 1000, 800), SIDE, SIDE)), tmp_path)


def raster(kind: Kind, side: int) -> np.ndarray[Any, Any]:
    return np.full((side, side, 3 if kind.photometric == 2 else 1), 1000, np.uint32)


@pytest.mark.parametrize("kind", TIFF_KINDS, ids=str)
def test_tiff_stays_below_the_estimate(kind: Kind, tmp_path: Path) -> None:
    assert_within_estimate(tiff(raster(kind, SIDE), kind), tmp_path)


# --- the part of the free memory


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "available_bytes", lambda: 130 * 2**20)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "JPEG2000", "BMP"])
def test_what_would_take_too_much_is_refused_in_one_line(format_: str, free: None) -> None:
    data = encoded(Image.new("RGBA" if format_ != "BMP" else "RGB", (2500, 2500)), format_)
    message = error_of(data, kind=ImageTooLargeError)
    assert re.match(r"bad\.jpg: 2500x2500 takes up to \d{2,3}(\.\d)? MB to decode", message)
    assert message.endswith("50% of the free memory; close other programs or export the photo smaller")
    assert read_image(data[:0] + encoded(Image.new("RGB", (500, 500)), "PNG")).size == (500, 500)


def test_a_large_jpeg_is_read_at_a_reduced_scale_where_that_is_enough(free: None) -> None:
    data = encoded(Image.new("RGB", (4000, 4000)), "JPEG")
    error_of(data, kind=ImageTooLargeError)
    assert read_image(data, size_hint=336).size == (1000, 1000)


def test_photos_that_are_decoded_at_once_share_the_memory_and_wait(free: None) -> None:
    budget, half = MemoryBudget(), int(PART_OF_FREE * 130 * 2**20)
    order = []

    def second() -> None:
        with budget.reserved(half - 1, "b"):
            order.append("second")

    with budget.reserved(half - 1, "a"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    with pytest.raises(ImageTooLargeError, match=r"^c takes up to 68\.2 MB to decode, and the limit is 68\.2 MB"):
        budget.reserved(half + 1, "c").__enter__()


def test_small_photos_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_memory, "available_bytes", lambda: pytest.fail("asked"))
    with MemoryBudget().reserved(SMALL_BYTES, "a"):
        pass
