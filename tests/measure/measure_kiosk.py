"""Take many photos at one kiosk: time from the shutter to score and words, growth of the page and both process trees.

    PYTHONPATH=tests python tests/measure/measure_kiosk.py                    # 100 photos: times
    PYTHONPATH=tests python tests/measure/measure_kiosk.py --captures 5000    # memory
    PYTHONPATH=tests python tests/measure/measure_kiosk.py --captures 5000 --server-only

`aesedge kiosk` as users start it, in headless Chromium with a camera that Pillow made; only the countdown and the
thanks are 25 times as fast. Times are those of the page. Memory is the proportional set size without files, the page's
heap what is left after a garbage collection, slopes those of a line through what follows the first 500 captures, or the
first fifth where that is less. With --server-only there is no browser: each photo is another one, and they follow one
another without a pause, with what page and supervisor ask beside them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from devtools import devtools
from kiosk_page import SIZE, write_camera
from kiosk_whole import whole_kiosk
from measure_soak import photo

if TYPE_CHECKING:
    from devtools import DevTools
    from kiosk_whole import Whole

N_WARM_UP = 500
SETTLED_S = 0.3  # the server forgets a photo after the end of its answer
_OWN = ("Pss_Anon:", "Pss_Shmem:")
LIMITS = {"score_p95_s": 0.6, "word_p95_s": 1.0, "server_bytes": 1024.0, "browser_bytes": 1024.0}
FASTER = """
window.faster ??= (() => {
  const later = window.setTimeout;
  window.setTimeout = (work, ms, ...rest) => {
    const waits = (ms === 1000 && document.body.dataset.state === "counting") || ms === 3000;
    return later(work, waits ? ms / 25 : ms, ...rest);
  };
  return true;
})();
"""
CAPTURE = """
(async () => {
  const state = () => document.body.dataset.state;
  const find = (id) => document.getElementById(id);
  const until = async (is) => {
    const end = performance.now() + 60000;
    while (!is()) {
      if (performance.now() > end) throw new Error(`it stays at ${state()}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  await until(() => state() === "attract");
  performance.clearMarks();
  find("primary").click();
  find("primary").click();
  await until(() => find("said").getAttribute("aria-busy") === "false");
  const marks = performance.getEntriesByType("mark").map((mark) => [mark.name, mark.startTime]);
  find("secondary").click();
  return Object.fromEntries(marks);
})()
"""


def tree_bytes(first: psutil.Process) -> int:
    """Return the memory of a process and all below it that no file stands for, each shared page counted once.

    The share of pages of files, such as Chromium's program, depends on what else runs on the machine.
    """
    total = 0
    for one in [first, *first.children(recursive=True)]:
        try:
            text = Path(f"/proc/{one.pid}/smaps_rollup").read_text()
        except (OSError, psutil.Error):
            continue
        total += 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(_OWN))
    return total


def sizes(running: Whole, page: DevTools) -> dict[str, float]:
    """Return what the page and both process trees take."""
    page.send("HeapProfiler.collectGarbage")
    told = {one["name"]: one["value"] for one in page.send("Performance.getMetrics")["metrics"]}
    return {
        "heap_bytes": told["JSHeapUsedSize"],
        "nodes": told["Nodes"],
        "listeners": told["JSEventListeners"],
        "server_bytes": tree_bytes(running.server()),
        "browser_bytes": tree_bytes(running.browser()),
    }


def capture(page: DevTools) -> tuple[float, float]:
    """Take one photo; returns seconds from the shutter to the score, and to the first word."""
    page.evaluate(FASTER)
    marks = page.evaluate(CAPTURE)
    return (marks["score"] - marks["shutter"]) / 1000, (marks["word"] - marks["shutter"]) / 1000


def soak(n_captures: int, folder: Path, n_looks: int = 50, minutes: float = float("inf")) -> dict[str, Any]:
    """Take photos; returns percentiles of the times, and the slope of each size in units a capture."""
    times, looks = [], []
    every = max(1, n_captures // n_looks)
    with whole_kiosk(folder, write_camera(folder / "film.mjpeg"), AESEDGE_CACHE=str(folder / "cache")) as running:
        running.wait_home(180)
        n_before = (folder / "said.txt").read_text().count("started again")  # while it started, on a busy machine
        with devtools(running.debug_port) as page:
            page.send("Performance.enable")
            began = time.monotonic()
            while len(times) < n_captures and time.monotonic() - began < 60 * minutes:
                times.append(capture(page))
                if len(times) % every == 0:
                    looks.append((len(times), sizes(running, page)))
                    shown = (f"{name} {size / 1e6:.2f} MB" for name, size in looks[-1][1].items() if "bytes" in name)
                    print(f"{len(times):6} captures, {', '.join(shown)}", flush=True)
            took_s = time.monotonic() - began
        said = (folder / "said.txt").read_text()
    return {**summary(times, looks, took_s), "restarts": said.count("started again") - n_before}


def summary(
    times: list[tuple[float, float]], looks: list[tuple[int, dict[str, float]]], took_s: float
) -> dict[str, Any]:
    """Return percentiles of the times, and the slope of each size in units a capture."""
    kept = [look for look in looks if look[0] > min(N_WARM_UP, len(times) // 5)]
    slopes = {
        name: round(float(np.polyfit([i for i, _ in kept], [look[name] for _, look in kept], 1)[0]), 2)
        for name in kept[0][1]
    }
    score, word = (np.percentile([pair[k] for pair in times], [50, 95]).round(3).tolist() for k in (0, 1))
    return {
        "captures": len(times),
        "captures_per_min": round(60 * len(times) / took_s, 1),
        "score_p50_s": score[0],
        "score_p95_s": score[1],
        "word_p50_s": word[0],
        "word_p95_s": word[1],
        "first": kept[0][1],
        "last": kept[-1][1],
        "slope_a_capture": slopes,
    }


def ask_server(port: int, frame: bytes) -> tuple[float, float]:
    """Send one photo as the page does; returns seconds to the score, and to the first word."""
    came: dict[bytes, float] = {}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as supervisor:
        supervisor.request("GET", "/kiosk/alive")
        supervisor.getresponse().read()
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as page:
        page.request("POST", "/kiosk/alive", b'{"state":"looking"}', {"content-type": "application/json"})
        page.getresponse().read()
        began = time.perf_counter()
        page.request("POST", "/kiosk/photo", frame, {"content-type": "image/jpeg"})
        for line in page.getresponse():
            if line.startswith(b"event: "):
                came.setdefault(line[7:].strip(), time.perf_counter() - began)
    return came[b"score"], came.get(b"words") or came[b"done"]


def soak_server(n_captures: int, folder: Path, n_looks: int = 50, minutes: float = float("inf")) -> dict[str, Any]:
    """Send photos to a kiosk's server without a browser; returns what :func:`soak` does, of the server alone."""
    times, looks = list[tuple[float, float]](), []
    every = max(1, n_captures // n_looks)
    process = subprocess.Popen(
        [sys.executable, "-m", "aesedge", "kiosk", "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "AESEDGE_CACHE": str(folder / "cache"), "AESEDGE_HOME": ""},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().partition("/kiosk")[0].rpartition(":")[2])
        began = time.monotonic()
        while len(times) < n_captures and time.monotonic() - began < 60 * minutes:
            file = io.BytesIO()
            photo(len(times)).resize(SIZE).save(file, "JPEG", quality=92)
            times.append(ask_server(port, file.getvalue()))
            if len(times) % every == 0:
                time.sleep(SETTLED_S)
                looks.append((len(times), {"server_bytes": float(tree_bytes(psutil.Process(process.pid)))}))
                print(f"{len(times):6} captures, server {looks[-1][1]['server_bytes'] / 1e6:.2f} MB", flush=True)
        took_s = time.monotonic() - began
    finally:
        process.terminate()
        process.wait(30)
    return {**summary(times, looks, took_s), "restarts": 0}


def main() -> int:
    """Read the command line, measure, compare with the limits."""
    parser = argparse.ArgumentParser(description="Many photos at one kiosk.")
    parser.add_argument("--captures", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end earlier after so long")
    parser.add_argument("--server-only", action="store_true", help="without a browser, as fast as it answers")
    given = parser.parse_args()
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = (soak_server if given.server_only else soak)(given.captures, Path(folder), minutes=given.minutes)
    for name in ("score", "word"):
        print(f"shutter to {name}: p50 {found[f'{name}_p50_s']:.3f} s, p95 {found[f'{name}_p95_s']:.3f} s")
    for name, slope in found["slope_a_capture"].items():
        print(f"{name:14} {found['first'][name]:14,.0f} -> {found['last'][name]:14,.0f}   {slope:10,.2f} a capture")
    measured = {**found, **found["slope_a_capture"]}
    missed = [name for name, limit in LIMITS.items() if measured.get(name, 0.0) > limit]
    print(json.dumps({**found, "load_1min": load, "missed": missed}))
    return 1 if missed or found["restarts"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
