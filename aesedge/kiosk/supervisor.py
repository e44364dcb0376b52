"""Keep a server and a browser running: start both, ask after both, start again what ended or fell silent."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from aesedge.errors import UsageError
from aesedge.kiosk.child import ends_with_parent
from aesedge.serve.sd_notify import notify, without_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.kiosk.chromium import Chromium

_log = logging.getLogger(__name__)
_LOOK_S = 0.5
_ANSWER_S = 3.0
SILENT_SERVER_S = 12.0
"""After so long without an answer the server is started again."""
SILENT_ENGINE_S = 90.0
"""After so long without one of the engine's own thread, which one batch of a large model may keep busy for a while."""
SILENT_PAGE_S = 12.0
"""After so long without a beat of the page, the browser is started again."""
FIRST_BEAT_S = 20.0
"""The same before a browser's first beat, once one has started within it."""
SLOW_FIRST_BEAT_S = 120.0
"""The same until then: the first start on a small machine, from a slow card, takes a while."""
_STOP_S = 10.0
_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_STABLE_S = 60.0
"""What ran for so long is started again without a pause."""


class _Alive(msgspec.Struct):
    """What the server says of itself and of the page."""

    ready: bool
    engine_s: float
    beat_s: float | None


class _Pauses:
    """How long to wait before the next start: longer each time, from the beginning after a good run."""

    def __init__(self) -> None:
        self._n = 0
        self.started = 0.0

    def wait_s(self) -> float:
        if time.monotonic() - self.started > _STABLE_S:
            self._n = 0
        pause = _PAUSES_S[min(self._n, len(_PAUSES_S) - 1)]
        self._n += 1
        return pause


class Supervisor:
    """One kiosk. Everything happens on the thread that calls :meth:`run`.

    Args:
        server: command of the server.
        port: at which it listens on 127.0.0.1.
        open_browser: starts the browser.
        ready: called once the page can be used.
    """

    def __init__(
        self,
        server: Sequence[str],
        port: int,
        open_browser: Callable[[], Chromium],
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = list(server)
        self._port = port
        self._open_browser = open_browser
        self._ready = ready
        self._server: subprocess.Popen[bytes] | None = None
        self._browser: Chromium | None = None
        self._server_pauses, self._browser_pauses = _Pauses(), _Pauses()
        self._answered_at = 0.0
        self._was_ready = False
        self._first_beat_s = SLOW_FIRST_BEAT_S

    def run(self) -> None:
        """Keep both running until the thread is interrupted.

        Raises:
            UsageError: the server cannot be started at all; it has said why.
        """
        try:
            self._start_server()
            while True:
                self._look()
                notify("WATCHDOG=1")
                time.sleep(_LOOK_S)
        finally:
            self._close()

    def _look(self) -> None:
        now = time.monotonic()
        if self._server is None or self._server.poll() is not None:
            self._restart_server("ended")
            return
        alive = self._ask()
        if alive is not None:
            self._answered_at = now
            if alive.ready and not self._was_ready:
                self._was_ready = True
                notify("READY=1")
                self._ready()
            if alive.engine_s > SILENT_ENGINE_S:
                self._restart_server(f"said nothing for {alive.engine_s:.0f} s in its engine")
                return
        elif now - self._answered_at > SILENT_SERVER_S:
            self._restart_server(f"said nothing for {now - self._answered_at:.0f} s")
            return
        self._look_at_browser(alive)

    def _look_at_browser(self, alive: _Alive | None) -> None:
        if self._browser is None:
            if alive is not None:  # the page can be had
                self._start_browser()
            return
        if not self._browser.is_running:
            self._restart_browser("ended")
        elif alive is not None:
            age_s = time.monotonic() - self._browser_pauses.started
            is_first = alive.beat_s is None or alive.beat_s >= age_s  # that beat was another browser's
            silent_s = age_s if is_first else alive.beat_s or 0.0
            if not is_first:
                self._first_beat_s = FIRST_BEAT_S
            if silent_s > (self._first_beat_s if is_first else SILENT_PAGE_S):
                if is_first:
                    self._first_beat_s = SLOW_FIRST_BEAT_S  # it was too little
                self._restart_browser(f"showed nothing alive for {silent_s:.0f} s")

    def _ask(self) -> _Alive | None:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_S)
        try:
            line.request("GET", "/kiosk/alive")
            answer = line.getresponse()
            body = answer.read(4096)
            return msgspec.json.decode(body, type=_Alive) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, msgspec.DecodeError):
            return None
        finally:
            line.close()

    def _start_server(self) -> None:
        self._server = subprocess.Popen(  # noqa: S603 (this program)
            self._command, stdin=subprocess.DEVNULL, env=without_systemd(), **ends_with_parent()
        )
        self._answered_at = self._server_pauses.started = time.monotonic()

    def _restart_server(self, why: str) -> None:
        server = self._server
        assert server is not None  # noqa: S101 (for mypy: run starts it)
        code = server.poll()
        if code is not None and code >= 0 and not self._was_ready:
            raise UsageError("the kiosk's server could not be started; the line above says why")
        _log.warning("the server %s; it is started again", why)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(_STOP_S)
        time.sleep(self._server_pauses.wait_s())
        self._start_server()

    def _start_browser(self) -> None:
        self._browser = self._open_browser()
        self._browser_pauses.started = time.monotonic()

    def _restart_browser(self, why: str) -> None:
        _log.warning("the browser %s; it is started again", why)
        if self._browser is not None:
            self._browser.close()
        self._browser = None
        time.sleep(self._browser_pauses.wait_s())
        self._start_browser()

    def _close(self) -> None:
        notify("STOPPING=1")
        if self._browser is not None:
            self._browser.close()
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as line:
        port: int = line.getsockname()[1]
        return port
