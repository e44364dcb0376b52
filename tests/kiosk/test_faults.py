"""Whatever fails, the kiosk is back at its first screen within 30 seconds, without a hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from browser import MARKS
from kiosk_page import (
    TURNED,
    kiosk_page,
    kiosk_server,
    open_browser,
    take_photo,
    turn,
    wait_done,
    wait_state,
    write_camera,
)
from kiosk_whole import whole_kiosk

from aesedge.kiosk import chromium
from aesedge.kiosk.config import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kiosk_whole import Whole
    from serving import Running

pytestmark = MARKS
LIMIT_S = 30.0
SCORE = 'event: score\ndata: {"score": 7.4}\n\n'
STREAM = {"content-type": "text/event-stream"}
ANSWERS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"retry-after": "2"}, "body": "{}"},
    "429 for long": {"status": 429, "headers": {"retry-after": "120"}},
    "503": {"status": 503, "headers": {"retry-after": "1"}},
    "500": {"status": 500, "body": "oops"},
    "404": {"status": 404},
    "a page": {"status": 200, "headers": {"content-type": "text/html"}, "body": "<html>captive portal</html>"},
    "noise": {"status": 200, "headers": STREAM, "body": "\x00\x01\x02 no events\n\n"},
    "no JSON": {"status": 200, "headers": STREAM, "body": "event: score\ndata: {score\n\n"},
    "no number": {"status": 200, "headers": STREAM, "body": 'event: score\ndata: {"score": "high"}\n\n'},
    "null": {"status": 200, "headers": STREAM, "body": "event: score\ndata: null\n\n"},
    "no score": {"status": 200, "headers": STREAM, "body": "event: done\ndata: {}\n\n"},
    "an error": {"status": 200, "headers": STREAM, "body": 'event: error\ndata: {"error": {}}\n\n'},
    "an error after the score": {"status": 200, "headers": STREAM, "body": f"{SCORE}event: error\ndata: {{}}\n\n"},
    "broken off": {"status": 200, "headers": STREAM, "body": SCORE},
    "empty": {"status": 200, "headers": STREAM, "body": ""},
    "strange attributes": {"status": 200, "headers": STREAM, "body": f"{SCORE}event: attributes\ndata: [null]\n\n"},
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camera(tmp_path_factory.mktemp("film") / "film.mjpeg")


class TestAnswers:
    """The page and a server that answers wrongly."""

    @pytest.fixture(scope="class")
    def kiosk(self) -> Iterator[Running]:
        with kiosk_server() as running:
            yield running

    @pytest.fixture(scope="class")
    def browser(self, film: Path) -> Iterator[Any]:
        with open_browser(film) as opened:
            yield opened

    def test_wrong_answers(self, browser: Any, kiosk: Running) -> None:
        """The page's clock is turned on by hand, and counts the 30 seconds; at the end all is well on the same page."""
        answer: dict[str, Any] = {}
        with kiosk_page(browser, kiosk.address, script=TURNED) as page:
            page.clock.install()
            page.goto(f"{kiosk.address}/kiosk")
            page.route("**/kiosk/photo", lambda route: route.fulfill(**answer))
            for name, wrong in ANSWERS.items():
                answer = wrong
                take_photo(page)
                turn(page, 4)
                for _ in range(int(LIMIT_S)):
                    turn(page, 1)
                    if page.evaluate("() => document.body.dataset.state") == "attract":
                        break
                assert page.evaluate("() => document.body.dataset.state") == "attract", name
            page.unroute("**/kiosk/photo")
            take_photo(page)
            turn(page, 4)
            wait_done(page)

    def test_a_server_that_has_room_after_a_while(self, browser: Any, kiosk: Running) -> None:
        with kiosk_page(browser, kiosk.address) as page:
            refusals = [429, 503]
            page.route(
                "**/kiosk/photo",
                lambda route: (
                    route.fulfill(status=refusals.pop(), headers={"retry-after": "1"})
                    if refusals
                    else route.continue_()
                ),
            )
            take_photo(page)
            wait_done(page)
            assert page.inner_text("#points")

    def test_a_server_that_cannot_be_reached(self, browser: Any, kiosk: Running) -> None:
        with kiosk_page(browser, kiosk.address) as page:
            wait_state(page, "attract")
            page.route("**/kiosk/*", lambda route: route.abort("connectionrefused"))
            wait_state(page, "failsafe")
            page.unroute("**/kiosk/*")
            wait_state(page, "attract", timeout_s=LIMIT_S)

    def test_a_clock_that_is_set_back(self, browser: Any, kiosk: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        """An hour at each look, on the page and in the server."""
        back = "let n = 0; const now = Date.now; Date.now = () => now() - 3_600_000 * n++;"
        times = iter(range(2_000_000_000, 0, -3600))
        monkeypatch.setattr(time, "time", lambda: float(next(times)))
        with kiosk_page(browser, kiosk.address, script=back) as page:
            take_photo(page)
            wait_done(page)
            page.click("#secondary")
            wait_state(page, "attract")
        scripts = [PAGE.joinpath(name).read_text(encoding="utf-8") for name in ("kiosk.js", "camera.js", "ask.js")]
        assert "Date" not in "".join(scripts)


class TestWhole:
    """The command with its browser."""

    @pytest.fixture(scope="class")
    def kiosk(self, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
        folder = tmp_path_factory.mktemp("kiosk")
        with whole_kiosk(folder, film, "--threads", "1", AESEDGE_CACHE=str(folder / "cache")) as running:
            running.wait_home(90)  # the camera is allowed without a policy, too
            yield running

    @pytest.mark.parametrize(
        ("which", "signum"),
        [
            ("renderer", signal.SIGKILL),
            ("browser", signal.SIGKILL),
            ("server", signal.SIGKILL),
            ("server", signal.SIGSTOP),
        ],
    )
    def test_what_is_killed_or_frozen_comes_back(self, kiosk: Whole, which: str, signum: int) -> None:
        """Running out of memory ends a process by SIGKILL, too."""
        victim: psutil.Process = getattr(kiosk, which)()
        victim.send_signal(signum)
        time.sleep(1)
        assert kiosk.wait_home(LIMIT_S) < LIMIT_S
        assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE or which == "renderer"

    def test_a_port_that_is_taken_is_told(self, kiosk: Whole) -> None:
        command = [sys.executable, "-m", "aesedge", "kiosk", "--no-browser", "--port", str(kiosk.port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert f"port {kiosk.port}" in done.stderr

    def test_nobody_outlives_the_supervisor(self, kiosk: Whole) -> None:
        """Not even a killed one; this is the last test of the class."""
        children = [kiosk.server(), kiosk.browser(), kiosk.renderer()]
        kiosk.process.kill()
        kiosk.process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
        profiles = list(chromium.memory_folder().glob(f"aesedge-kiosk-{kiosk.process.pid}-*"))
        assert profiles  # what it could not remove, the next one does
        chromium._remove_profiles_of_the_dead()
        assert not [path for path in profiles if path.exists()]


@pytest.mark.parametrize(
    ("display", "flags", "expected"),
    [
        ("wayland-0", [], ["--ozone-platform=wayland"]),
        ("wayland-0", ["--ozone-platform=x11"], []),
        ("wayland-0", ["--headless=new"], []),
        ("", [], []),
    ],
)
def test_wayland_is_used_where_it_is(
    display: str, flags: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", display)
    assert chromium.display_flags(flags) == expected


def test_root_is_told_to_be_another_user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from aesedge.cli import main

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main(["kiosk"]) == 2
    assert "run the kiosk as another user" in capsys.readouterr().err


def test_a_browser_that_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aesedge.cli import main

    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["kiosk"]) == 2
    assert "Chromium is not installed" in capsys.readouterr().err
