"""One page of a Chromium that listens for DevTools, asked with nothing else switched on.

Playwright has DevTools keep every request of the page, which grows with each: no way to measure memory.
"""

from __future__ import annotations

import json
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWER_S = 90.0


class DevTools:
    """An open connection to a page."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self._n = 0

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        """Ask for one thing; returns the answer."""
        self._n += 1
        self._line.send(json.dumps({"id": self._n, "method": method, "params": values}))
        while True:
            told = json.loads(self._line.recv(_ANSWER_S))
            if told.get("id") == self._n:
                assert "error" not in told, told["error"]
                return dict(told["result"])

    def evaluate(self, script: str) -> Any:
        """Run a script in the page; returns its value, that of a promise once it is there."""
        told = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")


@contextmanager
def devtools(port: int) -> Iterator[DevTools]:
    """Connect to the first page of the browser that listens at a port."""
    client = pytest.importorskip("websockets.sync.client")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    with client.connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as line:
        yield DevTools(line)
