"""A kiosk's server, a camera that Pillow made, and headless Chromium in front of both."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from browser import CHROMIUM
from PIL import Image, ImageDraw
from serving import serving

from aesedge.kiosk.chromium import FLAGS
from aesedge.kiosk.config import KioskConfig
from aesedge.kiosk.routes import KioskRoutes
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving import Running

SIZE = (640, 480)
N_FRAMES = 24


def write_camera(path: Path) -> Path:
    """Write a film of a photograph whose lower part turns from black to white, frame by frame, as .mjpeg."""
    with Image.open(SAMPLE_PHOTOS[0]) as photo:
        still = photo.convert("RGB").resize(SIZE)
    with path.open("wb") as file:
        for i in range(N_FRAMES):
            frame = still.copy()
            grey = round(255 * i / (N_FRAMES - 1))
            ImageDraw.Draw(frame).rectangle((0, SIZE[1] * 3 // 4, *SIZE), fill=(grey, grey, grey))
            frame.save(file, "JPEG", quality=92)
    return path


def camera_flags(film: Path) -> list[str]:
    """Flags that make a film the only camera."""
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}", "--no-sandbox"]


@contextmanager
def kiosk_server(config: KioskConfig | None = None, folder: Path | None = None, **settings: Any) -> Iterator[Running]:
    """Run a kiosk's server with pocket for the block."""
    chosen = {"private": True, "deadline_s": 20.0, "queue": 2, **settings}
    with serving(
        options={"photos": 1},
        more=lambda service: KioskRoutes(service, config or KioskConfig(), folder).routes(),
        **chosen,
    ) as running:
        yield running


@contextmanager
def open_browser(film: Path | None) -> Iterator[Any]:
    """Start headless Chromium with the kiosk's flags and this film as its camera; without one there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started, launched(started.chromium, film) as opened:
        yield opened


@contextmanager
def launched(browser_type: Any, film: Path | None) -> Iterator[Any]:
    """Start one more browser of Playwright's."""
    own = [flag for flag in FLAGS if flag != "--kiosk"]
    camera = camera_flags(film) if film else ["--no-sandbox"]
    opened = browser_type.launch(executable_path=CHROMIUM, args=[*own, *camera])
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def kiosk_page(browser: Any, address: str, *, script: str = "", allowed: bool = True, **context: Any) -> Iterator[Any]:
    """Open the page; at its end it asked nobody but its server, and nothing went wrong that it did not tell.

    Args:
        browser: it.
        address: of the server.
        script: runs in the page before anything else.
        allowed: whether it may use the camera.
        context: of the browser, such as its viewport.
    """
    given = {"viewport": {"width": 1280, "height": 800}, "permissions": ["camera"] if allowed else [], **context}
    opened = browser.new_context(**given)
    page = opened.new_page()
    asked: list[str] = []
    page.on("request", lambda asks: asked.append(asks.url))
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.set_default_timeout(15_000)
    if script:
        page.add_init_script(script)
    page.goto(f"{address}/kiosk")
    try:
        yield page
    finally:
        opened.close()
    assert page.wrong == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def wait_state(page: Any, *states: str, timeout_s: float = 15) -> None:
    """Wait until the page shows one of these screens."""
    page.wait_for_function(
        "states => states.includes(document.body.dataset.state)", arg=list(states), timeout=1000 * timeout_s
    )


def wait_done(page: Any) -> None:
    """Wait until the answer about a photo is whole."""
    page.wait_for_function("() => document.getElementById('said').getAttribute('aria-busy') === 'false'")


def turn(page: Any, seconds: int) -> None:
    """Turn on the clock of a page, slowly enough for what it asks its server."""
    for _ in range(seconds):
        page.clock.run_for(1000)
        page.wait_for_timeout(15)


def take_photo(page: Any) -> None:
    """Press the two buttons."""
    wait_state(page, "attract")
    page.click("#primary")
    wait_state(page, "live")
    page.click("#primary")


PLUG = """
// A plug for the fake camera, which has none: what browsers do when one is pulled and put in again.
const opening = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.plug = { error: null, tracks: [], constraints: [] };
navigator.mediaDevices.getUserMedia = async (asked) => {
  plug.constraints.push(asked);
  if (plug.error) throw new DOMException("", plug.error);
  const stream = await opening(asked);
  plug.tracks = stream.getTracks();
  return stream;
};
window.pull = (error) => {
  plug.error = error;
  for (const track of plug.tracks) { track.stop(); track.dispatchEvent(new Event("ended")); }
  navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
};
window.putIn = () => { plug.error = null; navigator.mediaDevices.dispatchEvent(new Event("devicechange")); };
"""
TURNED = """
HTMLVideoElement.prototype.requestVideoFrameCallback = (work) => window.setTimeout(work, 100);
"""
"""Lets frames come by the page's clock, for tests that turn it on by hand: else the camera would seem asleep."""
SENT = """
const sending = window.fetch;
window.fetch = (path, given) => {
  if (path === "/kiosk/photo") window.sent = given.body;
  return sending(path, given);
};
"""
"""Keeps the photo that the page sends: Playwright does not see the bodies of such requests."""


def sent_photo(page: Any) -> bytes:
    """Take a photo on a page that was opened with :data:`SENT`; return what was sent to the server."""
    take_photo(page)
    page.wait_for_function("() => window.sent")
    return sent_bytes(page)


def sent_bytes(page: Any) -> bytes:
    """Return what such a page has sent."""
    return bytes(page.evaluate("async () => [...new Uint8Array(await sent.arrayBuffer())]"))


def picture(data: bytes) -> Image.Image:
    """Decode a picture."""
    return Image.open(io.BytesIO(data)).convert("RGB")
