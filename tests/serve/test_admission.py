"""Places and the line: first come first served, bounded, honest about when to come again; and clients that go away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from serving import Running, jpeg, serving, user

from aesedge.serve.admission import Admission
from aesedge.serve.api_error import ApiError
from aesedge.vision import encoder

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

LONG = {"messages": [user("Hello")], "max_tokens": 900, "stream": True, "temperature": 2, "min_p": 0, "top_p": 1}
SCHEMA = {"type": "array", "items": {"type": "integer"}, "minItems": 200}
ENDLESS = {**LONG, "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}
"""An answer that is written until its tokens are used up."""


def test_line_is_first_come_first_served() -> None:
    order: list[int] = []

    async def one(admission: Admission, i: int, weight: int) -> None:
        async with admission.enter(weight):
            order.append(i)
            await asyncio.sleep(0.01)

    async def run() -> None:
        admission = Admission(2, 10)
        weights = [1, 1, 2, 1, 1, 1]
        await asyncio.gather(*(one(admission, i, weight) for i, weight in enumerate(weights)))
        assert (admission.n_inside, admission.n_waiting) == (0, 0)

    asyncio.run(run())
    assert order == [0, 1, 2, 3, 4, 5]  # the heavy one is not overtaken


def test_line_is_bounded_and_says_when() -> None:
    async def run() -> None:
        admission = Admission(1, 1)
        first = admission.enter()
        second = admission.enter()
        for refuse in (admission.enter, admission.check):
            with pytest.raises(ApiError) as refused:
                refuse()
            assert (refused.value.status, refused.value.headers()["x-should-retry"]) == (429, "true")
            assert 1 <= int(refused.value.headers()["retry-after"]) <= 120
        first.leave()
        assert second.is_inside
        second.leave()
        admission.enter().leave()

    asyncio.run(run())


def test_whoever_leaves_the_line_frees_nobody_elses_place() -> None:
    """A queued client that left killed the active one (ik_llama.cpp#1929)."""

    async def hold(admission: Admission) -> None:
        async with admission.enter():
            await asyncio.sleep(60)

    async def run() -> None:
        admission = Admission(1, 5)
        tasks = [asyncio.ensure_future(hold(admission)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert (admission.n_inside, admission.n_waiting) == (1, 1)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert (admission.n_inside, admission.n_waiting) == (1, 0)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (admission.n_inside, admission.n_waiting) == (0, 0)

    asyncio.run(run())


def test_closing_refuses_those_who_wait() -> None:
    async def run() -> None:
        admission = Admission(1, 5)
        admission.enter()
        waits = admission.enter()
        admission.close()
        with pytest.raises(ApiError) as refused:
            async with waits:
                pass
        assert refused.value.status == 503
        with pytest.raises(ApiError):
            admission.enter()

    asyncio.run(run())


@pytest.fixture(scope="module")
def narrow() -> Iterator[Running]:
    """A server that works on one request and lets one wait."""
    with serving(queue=1, options={"photos": 1}) as running:
        running.service.admission.places = 1
        yield running


def begin(running: Running, body: dict[str, object], path: str = "/v1/chat/completions") -> socket.socket:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(data)}\r\n\r\n"
    line = running.raw()
    line.sendall(head.encode() + data)
    return line


def wait_until(holds: Callable[[], bool], most_s: float = 10.0) -> None:
    latest = time.perf_counter() + most_s
    while not holds():
        assert time.perf_counter() < latest
        time.sleep(0.005)


def test_more_than_the_line_takes_are_told_so(narrow: Running) -> None:
    admission = narrow.service.admission
    with begin(narrow, ENDLESS) as inside:
        wait_until(lambda: admission.n_inside == 1)
        with begin(narrow, ENDLESS):
            wait_until(lambda: admission.n_waiting == 1)
            answer = narrow.chat("Hi")
            assert (answer.status, answer.json()["error"]["type"]) == (429, "rate_limit_error")
            assert int(answer.headers["retry-after"]) >= 1
            assert narrow.photo(bytes(16_000_000)).status == 429  # it may send everything before it listens
            assert narrow.ask("GET", "/ready").status == 429
            assert narrow.ask("GET", "/health").status == 200
        wait_until(lambda: admission.n_waiting == 0)  # it left the line
        assert admission.n_inside == 1
        inside.recv(1)
    wait_until(lambda: admission.n_inside == 0)
    wait_until(lambda: not narrow.session.running)


def test_sixteen_at_once_are_all_answered(served: Running) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda seed: served.photo(jpeg(100 + seed), "?max_tokens=8"), range(16)))
    assert [answer.status for answer in answers] == [200] * 16
    assert len({answer.json()["score"] for answer in answers}) == 16


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.06, 0.15, 0.3])
def test_a_client_that_goes_away_stops_costing(served: Running, delay_s: float, stream: bool) -> None:
    """At whatever moment it goes: the place is free at once, and nothing is left in the engine."""
    alone = served.chat(jpeg(40), "What are the faults?").json()["choices"][0]["message"]["content"]
    beside: list[str] = []
    ask = threading.Thread(target=lambda: beside.append(
        served.chat(jpeg(40), "What are the faults?").json()["choices"][0]["message"]["content"]
    ))  # fmt: skip
    photo = user(jpeg(500 + int(delay_s * 1000) + stream), "Describe it.")
    with begin(served, {**ENDLESS, "messages": [photo], "stream": stream}):
        ask.start()
        time.sleep(delay_s)
    wait_until(lambda: served.service.admission.n_inside <= ask.is_alive())
    ask.join()
    wait_until(lambda: not served.session.running and not served.service.admission.n_inside)
    assert beside == [alone]  # its neighbour writes what it would have written


def test_a_client_that_goes_away_while_its_photo_is_decoded(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, calls = type(served.session.internals.encoder), []
    encode = kind.encode_prepared
    monkeypatch.setattr(kind, "encode_prepared", lambda *a: (calls.append(1), encode(*a))[1])
    read, decoding, go_on = encoder.read_image, threading.Event(), threading.Event()

    def slowly(*args: object, **kwargs: object) -> object:
        decoding.set()
        go_on.wait(10)
        return read(*args, **kwargs)

    monkeypatch.setattr(encoder, "read_image", slowly)
    with begin(served, {"messages": [user(jpeg(60))]}):
        assert decoding.wait(10)
    wait_until(lambda: served.service.admission.n_inside == 0)
    go_on.set()
    monkeypatch.setattr(encoder, "read_image", read)
    assert served.photo(jpeg(61), "?words=0").status == 200
    assert len(calls) == 1  # the tower ran for the second photo alone
