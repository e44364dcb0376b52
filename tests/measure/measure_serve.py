"""Measure a server: time to the first word and photos a minute by number of clients, memory, start.

    python tests/measure/measure_serve.py                      # pocket: clients, the Python API beside them, start
    python tests/measure/measure_serve.py --bundle NAME        # another bundle, e.g. of 7B shape
    python tests/measure/measure_serve.py --against URL        # any server with OpenAI's chat completions
    python tests/measure/measure_serve.py --memory 5000        # memory after each request

Each request is about a new photo and streams its critique; our answers have the score too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from statistics import quantiles
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
from serving import jpeg, user

from aesedge.engine.model import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENTS = (1, 2, 4, 8, 16)
SIZE = (1024, 768)
MAX_TOKENS = 128
SHORT = 4
"""Tokens of an answer where the memory of many requests is measured."""
SEEDS = itertools.count(10_000)


class Sample(NamedTuple):
    """One answered request."""

    ttft_s: float
    total_s: float


def ask(url: str, photo: bytes, model: str, max_tokens: int = MAX_TOKENS) -> Sample:
    """Ask for the critique of a photo, and read the stream."""
    parts = urlsplit(url)
    question = [photo, "Describe the aesthetic experience of this image in detail."]
    body = json.dumps({"model": model, "messages": [user(*question)], "stream": True, "max_tokens": max_tokens})
    line = HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=600)
    began, first = time.perf_counter(), None
    line.request("POST", f"{parts.path.rstrip('/')}/v1/chat/completions", body, {"content-type": "application/json"})
    answer = line.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{url} answers {answer.status}: {answer.read()[:300]!r}")
    for row in answer:
        if first is None and row.startswith(b"data: {"):
            choices = json.loads(row[6:])["choices"]
            first = time.perf_counter() if choices and choices[0]["delta"].get("content") else None
    line.close()
    ended = time.perf_counter()
    return Sample((first or ended) - began, ended - began)


def by_clients(url: str, model: str, n_each: int, clients: Sequence[int]) -> list[dict[str, Any]]:
    """Ask with more and more clients at once; returns a row for each number."""
    rows = []
    for n_clients in clients:
        photos = [jpeg(next(SEEDS), SIZE, quality=90) for _ in range(max(n_each, 2 * n_clients))]
        began = time.perf_counter()
        with ThreadPoolExecutor(n_clients) as pool:
            samples = list(pool.map(lambda photo: ask(url, photo, model), photos))
        took = time.perf_counter() - began
        ttft = quantiles([one.ttft_s for one in samples], n=20)
        row = {
            "clients": n_clients,
            "photos": len(photos),
            "ttft_p50_s": round(ttft[9], 4),
            "ttft_p95_s": round(ttft[18], 4),
            "photos_per_min": round(60 * len(photos) / took, 1),
        }
        print("{clients:3} clients  {photos:4} photos  TTFT p50 {ttft_p50_s:7.3f} s  p95 {ttft_p95_s:7.3f} s  "
              "{photos_per_min:7.1f} photos/min".format(**row), flush=True)  # fmt: skip
        rows.append(row)
    return rows


def python_api(bundle: str, n: int) -> float:
    """Return how many photos a minute the Python API looks at, one after the other: critique, score and attributes."""
    photos = [jpeg(next(SEEDS), SIZE, quality=90) for _ in range(n)]
    with load_model(bundle, photos=4, cache="0") as model:
        began = time.perf_counter()
        for data in photos:
            with model.look(data) as photo:
                photo.critique(max_tokens=MAX_TOKENS)
                photo.score_and_attributes()
        return 60 * n / (time.perf_counter() - began)


class Started:
    """A server in a process of its own."""

    def __init__(self, bundle: str) -> None:
        command = [sys.executable, "-m", "aesedge", "serve", "--port", "0", "--quiet", "--bundle", bundle]
        began = time.perf_counter()
        self.process = subprocess.Popen([*command, "--cache-size", "0"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[1]
        self.start_s = time.perf_counter() - began

    def stop(self) -> None:
        """Have it end."""
        self.process.terminate()
        self.process.wait(60)


def memory(url: str, pid: int, bundle: str, n: int, seconds: float) -> dict[str, Any]:
    """Ask many times; returns the slope of the process's memory over the last four fifths of the requests."""
    photos = [jpeg(next(SEEDS), (320, 240)) for _ in range(200)]
    process, sizes = psutil.Process(pid), []
    latest = time.perf_counter() + seconds
    with ThreadPoolExecutor(4) as pool:
        for begin in range(0, n, 50):
            if time.perf_counter() > latest:
                break
            list(pool.map(lambda i: ask(url, photos[i % len(photos)], bundle, SHORT), range(begin, begin + 50)))
            sizes.append(process.memory_info().rss)
            print(f"{50 * len(sizes):6} requests  {sizes[-1] / 1e6:7.1f} MB", flush=True)
    kept = sizes[len(sizes) // 5 :]
    slope = float(np.polyfit(np.arange(len(kept)) * 50, kept, 1)[0])
    megabytes = {"rss_first_mb": round(kept[0] / 1e6, 1), "rss_last_mb": round(kept[-1] / 1e6, 1)}
    return {"requests": 50 * len(sizes), **megabytes, "slope_bytes_per_request": round(slope, 1)}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="pocket")
    parser.add_argument("--against", metavar="URL", help="measure this server instead")
    parser.add_argument("--model", help="its model, with --against")
    parser.add_argument("--photos", type=int, default=48, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="*", default=CLIENTS)
    parser.add_argument("--memory", type=int, metavar="REQUESTS", default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="end --memory after this time at the latest")
    chosen = parser.parse_args()
    if chosen.against:
        rows = by_clients(chosen.against, chosen.model or "default", chosen.photos, chosen.clients)
        print(json.dumps({"url": chosen.against, "clients": rows}))
        return
    found: dict[str, Any] = {"bundle": chosen.bundle, "load_1min": psutil.getloadavg()[0]}
    Started(chosen.bundle).stop()  # the first load of all proves the files once
    started = Started(chosen.bundle)
    try:
        found["start_s"] = round(started.start_s, 3)
        print(f"from the command to its address: {started.start_s:.2f} s")
        if chosen.memory:
            found["memory"] = memory(started.url, started.process.pid, chosen.bundle, chosen.memory, chosen.seconds)
        else:
            found["python_api_photos_per_min"] = round(python_api(chosen.bundle, chosen.photos), 1)
            print(f"Python API, one after the other: {found['python_api_photos_per_min']} photos/min")
            found["clients"] = by_clients(started.url, chosen.bundle, chosen.photos, chosen.clients)
    finally:
        started.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
