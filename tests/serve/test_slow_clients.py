"""Byte by byte: heads that never end, bodies that drip, garbage, and good requests beside them."""

from __future__ import annotations

import socket
import time

import pytest
from serving import Running, jpeg

from aesedge.serve import answering, receiving
from aesedge.serve.impatient import ImpatientProtocol

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
CHAT_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHAT_HEAD += b"Content-Length: 500\r\n\r\n"


@pytest.fixture
def impatient(served: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(ImpatientProtocol, "head_s", 0.4)
    monkeypatch.setattr(receiving, "BODY_S", 0.4)
    return served


def one_answer(line: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b'{"status":"ok"}'):
        got += line.recv(4096)
    return got


def until_closed(line: socket.socket, most_s: float = 5.0) -> bytes:
    line.settimeout(most_s)
    got = b""
    while piece := line.recv(65536):
        got += piece
    return got


@pytest.mark.parametrize("sent", [b"", HEAD, b"GET", HEAD + b"X: " + b"y" * 1000])
def test_half_heads_are_closed(impatient: Running, sent: bytes) -> None:
    with impatient.raw() as line:
        line.sendall(sent)
        assert until_closed(line) == b""


def test_dripping_heads_are_closed(impatient: Running) -> None:
    began = time.perf_counter()
    with impatient.raw() as line, pytest.raises(OSError):  # noqa: PT011, PT012 (reset or broken, by chance)
        for byte in HEAD * 40:
            line.sendall(bytes([byte]))
            time.sleep(0.02)
    assert time.perf_counter() - began < 5


def test_half_a_head_after_a_good_request_is_closed(impatient: Running) -> None:
    with impatient.raw() as line:
        line.sendall(HEAD + b"\r\n")
        assert b" 200 " in one_answer(line)
        line.sendall(HEAD)
        assert until_closed(line) == b""


def test_half_a_head_sent_with_a_good_request_is_closed(impatient: Running) -> None:
    with impatient.raw() as line:
        line.sendall(HEAD + b"\r\n" + HEAD)
        assert until_closed(line).count(b" 200 ") == 1


def test_good_requests_on_one_connection_stay(impatient: Running) -> None:
    with impatient.raw() as line:
        for _ in range(5):
            line.sendall(HEAD + b"\r\n")
            assert b" 200 " in one_answer(line)
            time.sleep(0.15)


def test_long_answers_are_not_cut(impatient: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImpatientProtocol, "head_s", 0.02)
    monkeypatch.setattr(receiving, "BODY_S", 9)
    assert impatient.photo(jpeg(11)).status == 200


@pytest.mark.parametrize("body", [b"", b'{"messages"'])
def test_dripping_bodies_are_refused(impatient: Running, body: bytes) -> None:
    with impatient.raw() as line:
        line.sendall(CHAT_HEAD + body)
        assert b" 408 " in line.recv(4096)
    assert impatient.service.bodies.n_bytes == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 100,
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /v1/photo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/photo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_garbage_is_closed(impatient: Running, sent: bytes) -> None:
    with impatient.raw() as line:
        line.sendall(sent)
        got = line.recv(65536)
    assert got == b"" or got.startswith(b"HTTP/1.1 4")
    assert b"Traceback" not in got
    assert impatient.ask("GET", "/health").status == 200


def test_silence_in_a_stream_is_filled(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 7B model takes half a minute to its first word; clients and proxies hang up before."""
    monkeypatch.setattr(answering, "PING_S", 0.001)
    answer = served.chat(jpeg(12), stream=True)
    assert b": ping\n\n" in answer.body
    assert answer.events()[-1] == "[DONE]"


def test_errors_after_the_head_come_in_the_stream(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "PING_S", 0.0001)
    answer = served.chat(b"no photo", stream=True)
    error, done = answer.events()[-2:]
    assert (answer.status, error["error"]["code"], done) == (200, "bad_image", "[DONE]")


def test_a_client_that_reads_nothing_holds_no_place(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "SEND_S", 0.3)
    lines = []
    for seed in range(served.service.admission.places + 1):
        line = served.raw()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        data = jpeg(20 + seed)
        head = (
            b"POST /v1/photo HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nAccept: text/event-stream\r\n"
        )
        line.sendall(head + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        lines.append(line)
    assert served.photo(jpeg(30), "?words=0").status == 200
    for line in lines:
        line.close()
