"""Measure the contact sheet of many photos in headless Chromium: first screen, memory of its process, scrolling.

    python tests/measure/measure_sheet.py --photos 10000

Thumbnails are real ones, of 320 pixels; a few hundred different pictures under as many names as there are photos.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import CHROMIUM

from aesedge.contact_sheet.sheet import page

_SECONDS = 6
_SCROLL = """seconds => new Promise((done) => {
  const frames = []; const began = performance.now(); const room = document.body.scrollHeight - innerHeight;
  function frame(now) {
    frames.push(now);
    if (now - began > seconds * 1000) return done(frames);
    scrollTo(0, Math.min(room, (now - began) * SPEED));
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);
})"""


def main() -> None:
    """Make a sheet, open it, scroll slowly and fast, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    n = parser.parse_args().photos
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as work, sync_playwright() as started:
        path = _sheet(Path(work), n)
        print(f"{n} photos, page of {path.stat().st_size / 1e6:.1f} MB")
        arguments = ["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        began = time.perf_counter()
        shown.goto(path.as_uri(), wait_until="commit")
        shown.wait_for_function(
            "() => { const all = [...document.querySelectorAll('#photos img')].filter((i) => i.src);"
            " return all.length > 20 && all.every((i) => i.complete && i.naturalWidth); }",
            polling="raf",
        )
        print(f"first screen: {time.perf_counter() - began:.2f} s")
        for name, pixels_per_ms in (("reading", 0.6), ("fast", 6.0)):
            frames = np.diff(shown.evaluate(_SCROLL.replace("SPEED", str(pixels_per_ms)), _SECONDS))
            print(
                f"scrolling {name}: {1000 / frames.mean():.0f} frames a second, 95 % within "
                f"{np.quantile(frames, 0.95):.0f} ms, longest {frames.max():.0f} ms"
            )
        print(f"renderer: {_renderer_bytes() / 2**20:.0f} MiB resident; {_n_cells(shown)} cells in the document")
        browser.close()


def _sheet(folder: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    (folder / "thumbs").mkdir()
    pictures = []
    for i in range(300):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
        pictures.append(folder / f"{i}.webp")
        coarse.save(pictures[-1], quality=75)
    for i in range(n):
        os.link(pictures[i % len(pictures)], folder / "thumbs" / f"{i:016x}.webp")
    critique = "This is a very good photo. Surfaces look clean and smooth. Dark tones give it a quiet mood. " * 3
    attributes = ["sharpness", "noise", "exposure", "contrast", "color"]
    photos = [
        {
            "n": f"IMG_{i:05}.jpg",
            "f": f"/photos/IMG_{i:05}.jpg",
            "k": f"{i:016x}",
            "s": round(float(rng.uniform(0, 10)), 2),
            "a": [round(float(value), 1) for value in rng.uniform(0, 10, len(attributes))],
            "u": f"../photos/IMG_{i:05}.jpg",
            "t": 1,
            "c": critique,
        }
        for i in range(n)
    ]
    path = folder / "index.html"
    data: dict[str, Any] = {"id": "measured", "attributes": attributes, "faults": [], "photos": photos}
    path.write_text(page(data, "measured"), encoding="utf-8")
    return path


def _renderer_bytes() -> int:
    children = psutil.Process().children(recursive=True)
    return max(
        (c.memory_info().rss for c in children if any("--type=renderer" in part for part in c.cmdline())), default=0
    )


def _n_cells(shown: Any) -> int:
    return int(shown.locator("#photos li").count())


if __name__ == "__main__":
    sys.exit(main())
