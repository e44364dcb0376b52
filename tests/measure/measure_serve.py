"""Measure a server: time to the first word and photos a minute by number of clients, memory, start.

    python tests/measure/measure_serve.py                      # pocket: clients, the Python API beside them, start
    python tests/measure/measure_serve.py --bundle NAME        # another bundle, e.g. of 7B shape
    python tests/measure/measure_serve.py --against URL        # any server with OpenAI's chat completions
    python tests/measure/measure_serve.py --memory 5000        # memory after each request

Each request is about a new photo and streams its critique; our answers have the score too. Each client keeps one
connection, and its requests are made before the clock starts: what base64 costs is the client's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
from serving import jpeg, user

from aesedge.bundle.bundle import open_bundle
from aesedge.engine.model import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def body_of(photo: bytes, model: str, max_tokens: int) -> bytes:
    """Return the request for the critique of a photo; clients make it, so it is ready before the clock starts."""
    question = [photo, "Describe the aesthetic experience of this image in detail."]
    return json.dumps(
        {"model": model, "messages": [user(*question)], "stream": True, "max_tokens": max_tokens}
    ).encode()


def client(url: str, bodies: Iterator[bytes]) -> list[Sample]:
    """Send requests over one connection, one after the other, until none is left for this client or for another."""
    with closing(connection(url)) as line:
        return [ask(line, urlsplit(url).path, body) for body in bodies]


def connection(url: str) -> HTTPConnection:
    """Return a connection to a server."""
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=600)


def ask(line: HTTPConnection, base: str, body: bytes) -> Sample:
    """Send a request, and read the stream."""
    path = f"{base.rstrip('/')}/v1/chat/completions"
    began, first = time.perf_counter(), None
    line.request("POST", path, body, {"content-type": "application/json"})
    answer = line.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{path} answers {answer.status}: {answer.read()[:300]!r}")
    for row in answer:
        if first is None and row.startswith(b"data: {"):
            choices = json.loads(row[6:])["choices"]
            first = time.perf_counter() if choices and choices[0]["delta"].get("content") else None
    ended = time.perf_counter()
    return Sample((first or ended) - began, ended - began)


def by_clients(url: str, model: str, n_each: int, clients: Sequence[int], max_tokens: int) -> list[dict[str, Any]]:
    """Ask with more and more clients at once; returns a row for each number."""
    rows = []
    for n_clients in clients:
        photos = [jpeg(next(SEEDS), SIZE, quality=90) for _ in range(max(n_each, 2 * n_clients))]
        left = iter([body_of(photo, model, max_tokens) for photo in photos])
        began = time.perf_counter()
        with ThreadPoolExecutor(n_clients) as pool:
            samples = list(itertools.chain(*pool.map(client, [url] * n_clients, [left] * n_clients)))
        took = time.perf_counter() - began
        ttft = quantiles([one.ttft_s for one in samples], n=20)
        row = {
            "clients": n_clients,
            "photos": len(samples),
            "ttft_p50_s": round(ttft[9], 4),
            "ttft_p95_s": round(ttft[18], 4),
            "photos_per_min": round(60 * len(samples) / took, 1),
        }
        print("{clients:3} clients  {photos:4} photos  TTFT p50 {ttft_p50_s:7.3f} s  p95 {ttft_p95_s:7.3f} s  "
              "{photos_per_min:7.1f} photos/min".format(**row), flush=True)  # fmt: skip
        rows.append(row)
    return rows


def beside_python_api(url: str, name: str, bundle: str, n: int, max_tokens: int) -> dict[str, float]:
    """Look at n photos through one client and at n through the Python API, in turns: both meet the same machine.

    Returns:
        Photos a minute of both, and how many times as fast as the Python API the client is, by their medians.
    """
    photos = [jpeg(next(SEEDS), SIZE, quality=90) for _ in range(2 * n + 2)]
    bodies = iter([body_of(photo, name, max_tokens) for photo in photos[1::2]])
    api, served = list[float](), list[float]()
    with load_model(bundle, photos=4, cache="0") as model, closing(connection(url)) as line:
        for data, body in zip(photos[::2], bodies, strict=True):
            began = time.perf_counter()
            with model.look(data) as photo:
                photo.critique(max_tokens=max_tokens)
                photo.score_and_attributes()
            api.append(time.perf_counter() - began)
            served.append(ask(line, urlsplit(url).path, body).total_s)
    both = {"python_api": api[1:], "one_client": served[1:]}  # the first ones warm up
    per_min = {f"{who}_photos_per_min": round(60 * n / sum(times), 1) for who, times in both.items()}
    return {**per_min, "one_client_against_python_api": round(median(api[1:]) / median(served[1:]), 3)}


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


def memory(url: str, pid: int, model: str, n: int, seconds: float) -> dict[str, Any]:
    """Ask many times; returns the slope of the process's memory over the last four fifths of the requests."""
    bodies = [body_of(jpeg(next(SEEDS), (320, 240)), model, SHORT) for _ in range(200)]
    process, sizes = psutil.Process(pid), []
    latest = time.perf_counter() + seconds
    with ThreadPoolExecutor(4) as pool:
        for begin in range(0, n, 50):
            if time.perf_counter() > latest:
                break
            # A connection for each request, whose memory must be free again too.
            list(pool.map(lambda i: client(url, iter([bodies[i % len(bodies)]])), range(begin, begin + 50)))
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
    parser.add_argument("--tokens", type=int, default=MAX_TOKENS, help="of an answer at most")
    parser.add_argument("--memory", type=int, metavar="REQUESTS", default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="end --memory after this time at the latest")
    chosen = parser.parse_args()
    if chosen.against:
        rows = by_clients(chosen.against, chosen.model or "default", chosen.photos, chosen.clients, chosen.tokens)
        print(json.dumps({"url": chosen.against, "clients": rows}))
        return
    found: dict[str, Any] = {"bundle": chosen.bundle, "load_1min": psutil.getloadavg()[0]}
    Started(chosen.bundle).stop()  # the first load of all proves the files once
    started, name = Started(chosen.bundle), open_bundle(chosen.bundle).name
    try:
        found["start_s"] = round(started.start_s, 3)
        print(f"from the command to its address: {started.start_s:.2f} s")
        if chosen.memory:
            found["memory"] = memory(started.url, started.process.pid, name, chosen.memory, chosen.seconds)
        else:
            found |= beside_python_api(started.url, name, chosen.bundle, chosen.photos, chosen.tokens)
            print(
                "in turns: Python API {python_api_photos_per_min} photos/min, one client {one_client_photos_per_min}, "
                "{one_client_against_python_api} times as fast by their medians".format(**found),
                flush=True,
            )
            found["clients"] = by_clients(started.url, name, chosen.photos, chosen.clients, chosen.tokens)
    finally:
        started.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
