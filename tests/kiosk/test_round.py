"""One guest in front of the kiosk, in headless Chromium with a camera that Pillow made: the round, again, forgotten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from browser import MARKS
from kiosk_page import (
    SENT,
    kiosk_page,
    kiosk_server,
    open_browser,
    picture,
    sent_bytes,
    sent_photo,
    take_photo,
    wait_done,
    wait_state,
    write_camera,
)
from PIL import ImageChops, ImageOps, ImageStat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving import Running

pytestmark = MARKS
STATES = """
window.states = [];
new MutationObserver(() => {
  const state = document.body?.dataset.state;
  if (state && states.at(-1) !== state) states.push(state);
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"] });
"""
FRAMES = """
// The grey of the film's lower part in each frame that was presented, with the time at which it was.
window.greys = [];
addEventListener("DOMContentLoaded", () => {
  const video = document.getElementById("video");
  const small = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const look = (now) => {
    const { videoWidth: w, videoHeight: h } = video;
    small.drawImage(video, w * .4, h * .85, w * .2, h * .1, 0, 0, 1, 1);
    greys.push([now, small.getImageData(0, 0, 1, 1).data[0]]);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
});
"""


@pytest.fixture(scope="module")
def kiosk() -> Iterator[Running]:
    with kiosk_server() as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(write_camera(tmp_path_factory.mktemp("film") / "film.mjpeg")) as opened:
        yield opened


def test_a_round(browser: Any, kiosk: Running) -> None:
    """Every state in its order; the score and the words are those that the server gives for the same photo."""
    with kiosk_page(browser, kiosk.address, script=SENT + STATES) as page:
        photo = sent_photo(page)
        wait_done(page)
        result = kiosk.photo(photo).json()
        assert page.inner_text("#points") == f"{result['score']:.1f}"
        assert page.inner_text("#critique") == result["critique"]
        assert page.locator("#attributes meter").count() == len(result["attributes"])
        values = [round(v, 6) for v in page.locator("#attributes meter").evaluate_all("all => all.map((m) => m.value)")]
        assert values == [round(rating["score"], 6) for rating in result["attributes"].values()]
        page.click("#secondary")
        wait_state(page, "attract")
        states = page.evaluate("() => states")
    in_order = ["starting", "attract", "live", "counting", "looking", "score", "words", "thanks", "attract"]
    assert [state for state in states if state != "starting"] == in_order[1:]


def test_the_frame_at_zero_is_the_photo(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address, script=SENT + FRAMES) as page:
        sent = picture(sent_photo(page))
        shutter, greys = page.evaluate("() => [performance.getEntriesByName('shutter')[0].startTime, greys]")
        wait_state(page, "looking", "score", "words")
        width, height = sent.size
        area = (width * 4 // 10, height * 9 // 10, width * 6 // 10, height * 95 // 100)
        grey = ImageStat.Stat(sent.crop(area)).mean[0]
        n_before = sum(at <= shutter for at, _ in greys)
        shown = [value for _, value in greys[n_before - 2 : n_before + 1]]  # which was there is told a moment later
        assert min(abs(grey - value) for value in shown) <= 12, (grey, greys[-8:])
        wait_done(page)
        page.wait_for_timeout(500)  # without the flash
        box = page.locator("#photo").bounding_box()
        screen = ImageOps.mirror(picture(page.screenshot(clip=box)))  # guests see themselves as in a mirror
    fitted = ImageOps.pad(sent, screen.size, color=(0x12, 0x11, 0x0F))
    difference = ImageStat.Stat(ImageChops.difference(fitted, screen).convert("L")).mean[0]
    assert difference < 6, difference


def test_what_is_sent_is_what_the_screen_shows(browser: Any, kiosk: Running) -> None:
    """On a tall screen the sides of a wide picture are not seen; they are not judged either."""
    with kiosk_page(browser, kiosk.address, script=SENT, viewport={"width": 540, "height": 960}) as page:
        wait_state(page, "attract")
        page.click("#primary")
        box = page.locator("#video").bounding_box()
        page.click("#primary")
        page.wait_for_function("() => window.sent")
        width, height = picture(sent_bytes(page)).size
        assert width / height == pytest.approx(box["width"] / box["height"], rel=0.01)
        assert max(width, height) <= 1280


def wait_until(what: Any, seconds: float = 5) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_again_drops_a_photo_that_waits(browser: Any, kiosk: Running) -> None:
    """All places of the server are taken; the photo leaves the line as soon as the guest wants another one."""
    admission = kiosk.service.admission
    place = kiosk.call(lambda: admission.enter(admission.places))
    try:
        with kiosk_page(browser, kiosk.address) as page:
            take_photo(page)
            wait_state(page, "looking")
            wait_until(lambda: admission.n_waiting == 1)
            page.keyboard.press("Escape")
            wait_state(page, "live", timeout_s=1)
            wait_until(lambda: admission.n_waiting == 0, 1)
    finally:
        kiosk.call(place.leave)


@pytest.mark.parametrize("mark", ["score", "word", "done"])
def test_again_at_any_moment(browser: Any, kiosk: Running, mark: str) -> None:
    """As early as the page can: in the moment in which the score, the first word, or the last is there."""
    press = f"""
    const marked = performance.mark.bind(performance);
    performance.mark = (name) => {{
      marked(name);
      if (name !== "{mark}" || window.pressed) return;
      window.pressed = true;
      setTimeout(() => document.getElementById("primary").click());
    }};
    """
    with kiosk_page(browser, kiosk.address, script=press) as page:
        take_photo(page)
        page.wait_for_function("() => window.pressed")
        wait_state(page, "live")
        assert page.evaluate("() => [photo.width, critique.textContent, points.textContent]") == [1, "", ""]
        wait_until(lambda: kiosk.service.admission.n_inside == 0)
        wait_until(lambda: not kiosk.session.running)
        page.evaluate("() => performance.clearMarks()")
        page.click("#primary")
        wait_done(page)  # and the next one is answered
        assert page.inner_text("#points")


def test_nothing_of_a_photo_is_kept(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address) as page:
        take_photo(page)
        wait_done(page)
        session = kiosk.session
        wait_until(lambda: not session.photos._known)
        assert not session.photos._encoded
        assert session.internals.encoder.cache.n_bytes == 0
        wait_until(lambda: not session.internals.sequences._resident_entries)
        assert page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert page.evaluate("async () => (await caches.keys()).length + (await indexedDB.databases()).length") == 0


def test_nothing_can_be_opened_or_dropped(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address) as page:
        wait_state(page, "attract")
        for kind in ("contextmenu", "dragover", "drop"):
            kept = f"() => document.body.dispatchEvent(new MouseEvent('{kind}', {{bubbles: true, cancelable: true}}))"
            assert page.evaluate(kept) is False
        answer = page.request.get(f"{kiosk.address}/kiosk")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"


def test_a_result_is_handed_over(browser: Any, tmp_path: Any) -> None:
    """The sentence about privacy says so then."""
    from aesedge.kiosk.config import KioskConfig

    out = tmp_path / "result.json"
    config = KioskConfig(on_result=("tee", str(out)))
    with kiosk_server(config) as running, kiosk_page(browser, running.address) as page:
        take_photo(page)
        wait_done(page)
        assert "device of the operator" in page.inner_text("#privacy")
        wait_until(lambda: out.is_file() and out.read_bytes().endswith(b"\n"))
        assert page.inner_text("#critique") in out.read_text()
