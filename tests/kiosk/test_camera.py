"""Camera troubles are screens, and each ends by itself: refused, missing, unplugged, asleep, taken by another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser import MARKS
from kiosk_page import (
    PLUG,
    kiosk_page,
    kiosk_server,
    launched,
    open_browser,
    take_photo,
    wait_done,
    wait_state,
    write_camera,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving import Running

pytestmark = MARKS


@pytest.fixture(scope="module")
def kiosk() -> Iterator[Running]:
    with kiosk_server() as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(write_camera(tmp_path_factory.mktemp("film") / "film.mjpeg")) as opened:
        yield opened


def test_refused_and_allowed_again(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address, allowed=False) as page:
        wait_state(page, "refused")
        assert "not allowed" in page.inner_text("#title")
        page.context.grant_permissions(["camera"])
        wait_state(page, "attract")
        assert page.inner_text("#notice") == "The camera is back"


def test_missing(browser: Any, kiosk: Running) -> None:
    with launched(browser.browser_type, None) as without, kiosk_page(without, kiosk.address) as page:
        wait_state(page, "missing")


@pytest.mark.parametrize("when", ["attract", "live", "counting"])
def test_unplugged_and_plugged_in(browser: Any, kiosk: Running, when: str) -> None:
    with kiosk_page(browser, kiosk.address, script=PLUG) as page:
        wait_state(page, "attract")
        for state in ("live", "counting"):
            if when != "attract" and page.evaluate("() => document.body.dataset.state") != when:
                page.click("#primary")
                wait_state(page, state)
        page.evaluate("() => pull('NotFoundError')")
        wait_state(page, "unplugged", timeout_s=3)
        assert not page.is_visible("#primary")
        page.wait_for_timeout(1500)  # it tries, in vain
        wait_state(page, "unplugged")
        page.evaluate("() => putIn()")
        wait_state(page, "attract", timeout_s=3)
        take_photo(page)
        wait_done(page)


def test_a_photo_that_is_taken_outlives_its_camera(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address, script=PLUG) as page:
        take_photo(page)
        wait_state(page, "looking", "score", "words")
        page.evaluate("() => pull('NotFoundError')")
        wait_done(page)
        assert page.inner_text("#critique")
        page.click("#secondary")
        wait_state(page, "unplugged")
        page.evaluate("() => putIn()")
        wait_state(page, "attract")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ("NotReadableError", "asleep"),
        ("AbortError", "asleep"),
        ("NotAllowedError", "refused"),
        ("SecurityError", "refused"),
        ("OverconstrainedError", "missing"),
        ("NotFoundError", "missing"),
        ("UnknownFutureError", "asleep"),
    ],
)
def test_what_a_browser_says_has_a_screen(browser: Any, kiosk: Running, error: str, state: str) -> None:
    with kiosk_page(browser, kiosk.address, script=f"{PLUG}\nplug.error = '{error}';") as page:
        wait_state(page, state)
        page.evaluate("() => putIn()")
        wait_state(page, "attract", timeout_s=5)


def test_asleep_and_awake(browser: Any, kiosk: Running) -> None:
    """A camera whose picture stands still: the track lives, and no frames come."""
    still = """
    const canvas = document.createElement("canvas");
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.sleeping = true;
    navigator.mediaDevices.getUserMedia = async (asked) => (sleeping ? canvas.captureStream(0) : real(asked));
    """
    with kiosk_page(browser, kiosk.address, script=still) as page:
        wait_state(page, "asleep")
        page.evaluate("() => { sleeping = false; }")
        wait_state(page, "attract")


def test_a_driver_that_never_answers(browser: Any, kiosk: Running) -> None:
    """The page asks again after 10 s; a stream that comes too late is closed."""
    hangs = """
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.hanging = true;
    navigator.mediaDevices.getUserMedia = (asked) => (hanging ? new Promise(() => {}) : real(asked));
    """
    with kiosk_page(browser, kiosk.address, script=hangs) as page:
        wait_state(page, "asleep")
        page.evaluate("() => { hanging = false; }")
        wait_state(page, "attract")


def test_a_camera_is_chosen_by_its_name(browser: Any) -> None:
    from aesedge.kiosk.config import KioskConfig

    with kiosk_server(KioskConfig(camera="FILM")) as running, kiosk_page(browser, running.address) as page:
        wait_state(page, "attract")
    with kiosk_server(KioskConfig(camera="logitech")) as running, kiosk_page(browser, running.address) as page:
        wait_state(page, "missing")
