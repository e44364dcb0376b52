"""`aesedge kiosk` as a user starts it, browser included, in headless Chromium with a camera that Pillow made."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
from kiosk_page import camera_flags

from aesedge.kiosk.supervisor import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Whole:
    """A kiosk that runs."""

    def __init__(self, process: subprocess.Popen[str], port: int, debug_port: int) -> None:
        self.process, self.port, self.debug_port = process, port, debug_port

    def alive(self) -> dict[str, Any] | None:
        """What the server says of itself and of the page, or None where it does not answer."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
        try:
            line.request("GET", "/kiosk/alive")
            found: dict[str, Any] = json.loads(line.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            line.close()
        return found

    def wait_home(self, within_s: float) -> float:
        """Wait until a page that beats shows its first screen; returns how long that took in seconds."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            found = self.alive()
            age_s = time.monotonic() - began
            beats = found and found["beat_s"] is not None and found["beat_s"] < min(3.0, age_s)
            if found and beats and found["state"] == "attract":
                return age_s
            assert self.process.poll() is None, "the kiosk has ended"
            time.sleep(0.2)
        raise AssertionError(f"it was not back after {within_s:g} s: {self.alive()}")

    def server(self) -> psutil.Process:
        """Return the server's process."""
        return next(one for one in self._children() if "--no-browser" in one.cmdline())

    def browser(self) -> psutil.Process:
        """Return Chromium's first process."""
        return next(one for one in self._children() if "--no-browser" not in one.cmdline())

    def renderer(self) -> psutil.Process:
        """Return the process of the page."""
        every = self.browser().children(recursive=True)
        renderers = [one for one in every if "--type=renderer" in one.cmdline()]
        return max(renderers, key=lambda one: one.memory_info().rss)

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    @contextmanager
    def page(self) -> Iterator[Any]:
        """Take hold of the page in the browser that runs."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as started:
            browser = started.chromium.connect_over_cdp(f"http://127.0.0.1:{self.debug_port}")
            yield browser.contexts[0].pages[0]


@contextmanager
def whole_kiosk(folder: Path, film: Path, *arguments: str, **environment: str) -> Iterator[Whole]:
    """Run a kiosk for the block.

    Args:
        folder: for its configuration and what it says.
        film: its camera.
        arguments: more of the command.
        environment: more variables.
    """
    port, debug_port = free_port(), free_port()
    flags = ["--headless=new", *camera_flags(film), f"--remote-debugging-port={debug_port}"]
    (folder / "kiosk.toml").write_text(f"browser_flags = {json.dumps(flags)}\n")
    command = [sys.executable, "-m", "aesedge", "kiosk", "--config", str(folder / "kiosk.toml")]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port), *arguments],
            stdout=said,
            stderr=said,
            text=True,
            env={**os.environ, "AESEDGE_CACHE": "", "AESEDGE_HOME": "", **environment},
        )
    try:
        yield Whole(process, port, debug_port)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
