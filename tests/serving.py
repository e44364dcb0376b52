"""A server on a thread of the test, with pocket, and ways to ask it: as HTTP clients do, and byte by byte."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from conftest import drawn_photo

from aesedge.bundle.bundle import open_bundle
from aesedge.engine.model import load_model
from aesedge.serve import server
from aesedge.serve.listening import listening
from aesedge.serve.settings import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "correct horse battery staple"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The data of server-sent events, that of [DONE] as it is."""
        found = [line.removeprefix("data: ") for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [data if data == "[DONE]" else json.loads(data) for data in found]

    def lines(self) -> list[Any]:
        """The objects of a stream of JSON lines."""
        return [json.loads(line) for line in self.body.splitlines()]


class Running:
    """A server that answers, and its address."""

    def __init__(self, address: str, running: Any) -> None:
        self.address = address
        self.port = int(address.rpartition(":")[2])
        self.running = running
        self.service = running._service if running is not None else None

    @property
    def session(self) -> Any:
        return self.service.host.model

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request; what is no bytes is sent as JSON. Headers are named with underscores."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            told.setdefault("content-type", "application/json")
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            line.request(method, path, body, told)
            answer = line.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            line.close()

    def chat(self, *content: Any, **fields: Any) -> Answer:
        """Ask one question of the user; a photo's bytes among its parts become a data URI."""
        return self.ask("POST", "/v1/chat/completions", {"messages": [user(*content)], **fields})

    def photo(self, data: bytes, query: str = "", **headers: str) -> Answer:
        return self.ask("POST", f"/v1/photo{query}", data, **{"content_type": "image/jpeg", **headers})

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def call(self, work: Any) -> Any:
        """Run a function on the server's event loop."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.running._loop).result(30)


@contextmanager
def serving(
    bundle: str = "pocket", options: dict[str, Any] | None = None, more: Any = lambda _service: (), **settings: Any
) -> Iterator[Running]:
    """Run a server for the block."""
    ready: list[str] = []
    there = threading.Event()
    failed: list[BaseException] = []
    chosen = ServeSettings(**{"port": 0, **settings})
    cache = {"cache": "0"} if chosen.private else {}

    def load() -> Any:
        return load_model(bundle, **{"threads": 1, "device": "cpu", "photos": 4, **cache, **(options or {})})

    def come(address: str) -> None:
        ready.append(address)
        there.set()

    running = server._Running(chosen, open_bundle(bundle), load, come, more)

    def run() -> None:
        try:
            with listening(chosen) as line:
                asyncio.run(running.run(line))
        except BaseException as error:  # noqa: BLE001 (told to the test)
            failed.append(error)
        there.set()

    thread = threading.Thread(target=run)
    thread.start()
    there.wait(60)
    try:
        if ready:
            yield Running(ready[0], running)
    finally:
        if thread.is_alive():
            running.stop()
        thread.join(60)
    if failed:
        raise failed[0]
    assert not thread.is_alive()


def jpeg(seed: int = 0, size: tuple[int, int] = (96, 72), **options: Any) -> bytes:
    file = io.BytesIO()
    drawn_photo(seed, size).save(file, "JPEG", **options)
    return file.getvalue()


def data_uri(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def user(*content: Any) -> dict[str, Any]:
    """A message of the user: texts, and photos as bytes."""
    if len(content) == 1 and isinstance(content[0], str):
        return {"role": "user", "content": content[0]}
    parts = [
        {"type": "image_url", "image_url": {"url": data_uri(part)}}
        if isinstance(part, bytes)
        else {"type": "text", "text": part}
        if isinstance(part, str)
        else part
        for part in content
    ]
    return {"role": "user", "content": parts}
