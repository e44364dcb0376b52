"""For everybody: axe finds nothing on any screen in any language; keyboard alone, large buttons, time that extends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser import MARKS, load_axe
from kiosk_page import (
    PLUG,
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

from aesedge.kiosk.config import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving import Running

pytestmark = MARKS
HOLD = """
// Keeps the next answer of the server from the page, whole or after its first event, until it is let go.
const sending = window.fetch;
window.held = null;
window.fetch = async (path, given) => {
  if (path !== "/kiosk/photo" || !window.hold) return sending(path, given);
  if (window.hold === "all") return new Promise(() => {});
  if (window.hold === "fail") return new Response("<html>", { status: 200, headers: { "content-type": "text/html" } });
  if (window.hold === "refuse") return new Response("", { status: 400 });
  const scores = { sharpness: 8, noise: 3.2, exposure: 4.4, contrast: 6, color: 9.9, "new one": 5 };
  const attributes = Object.fromEntries(Object.entries(scores).map(([name, score]) => [name, { score }]));
  const score = `event: score\\ndata: {"score": 7.4}\\n\\nevent: attributes\\ndata: ${JSON.stringify(attributes)}`;
  const open = new ReadableStream({ start: (stream) => stream.enqueue(new TextEncoder().encode(score + "\\n\\n")) });
  return new Response(open, { headers: { "content-type": "text/event-stream" } });
};
"""


@pytest.fixture(scope="module")
def kiosk() -> Iterator[Running]:
    with kiosk_server() as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(write_camera(tmp_path_factory.mktemp("film") / "film.mjpeg")) as opened:
        yield opened


STAY = "() => { for (let id = 1; id < 10_000; id++) clearTimeout(id); }"
"""No screen ends by itself from here on."""


def to_live(page: Any) -> None:
    wait_state(page, "attract")
    page.click("#primary")
    wait_state(page, "live")


def to_counting(page: Any) -> None:
    to_live(page)
    page.click("#primary")
    page.evaluate(STAY)


def to_answer(page: Any, hold: str, state: str) -> None:
    page.evaluate("hold => { window.hold = hold; }", hold)
    take_photo(page)
    wait_state(page, state)
    page.evaluate(STAY)


def to_words(page: Any) -> None:
    take_photo(page)
    wait_done(page)


def to_thanks(page: Any) -> None:
    to_words(page)
    page.click("#secondary")
    page.evaluate(STAY)


def to_still(page: Any) -> None:
    to_live(page)
    page.evaluate("() => document.getElementById('still').showModal()")


def to_choice(page: Any) -> None:
    wait_state(page, "attract")
    page.click("#languages")


SCREENS: dict[str, Any] = {
    "attract": lambda page: wait_state(page, "attract"),
    "live": to_live,
    "counting": to_counting,
    "looking": lambda page: to_answer(page, "all", "looking"),
    "score": lambda page: to_answer(page, "score", "score"),
    "words": to_words,
    "thanks": to_thanks,
    "failsafe": lambda page: to_answer(page, "fail", "failsafe"),
    "unreadable": lambda page: to_answer(page, "refuse", "unreadable"),
    "refused": "NotAllowedError",
    "missing": "NotFoundError",
    "asleep": "NotReadableError",
    "unplugged": lambda page: (wait_state(page, "attract"), page.evaluate("() => pull('NotFoundError')")),
    "still there": to_still,
    "languages": to_choice,
}
CHECK = """
async (options) => {
  // Another language, as a guest chooses it; then what axe finds, and what is too small or outside of the screen.
  const found = await axe.run(document, options);
  const shown = [...document.querySelectorAll("button")].filter((one) => one.checkVisibility());
  const open = document.querySelector("dialog[open]");
  const inReach = shown.filter((one) => !open || open.contains(one));
  const small = inReach.map((one) => [one.id || one.lang, one.getBoundingClientRect()])
    .filter(([, box]) => box.width < 64 || box.height < 64 || box.left < 0 || box.right > innerWidth
      || box.bottom > innerHeight);
  const wide = document.documentElement.scrollWidth > innerWidth;
  const violations = found.violations.map((rule) => [rule.id, rule.nodes.map((node) => node.html)]);
  return [...violations, ...small.map(([name]) => name), ...(wide ? ["wide"] : [])];
}
"""


CHOOSE = """
(code) => {
  const stay = [...document.querySelectorAll("dialog[open]")].map((one) => one.id);
  for (const id of stay) document.getElementById(id).close();
  document.getElementById("languages").click();
  document.querySelector(`#choices [lang=${code}]`).click();
  if (stay.includes("choose")) document.getElementById("languages").click();
  if (stay.includes("still")) document.getElementById("still").showModal();
  return document.documentElement.lang;
}
"""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1920, 1080)], ids=["phone", "wide"])
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(browser: Any, kiosk: Running, screen: str, width: int, height: int) -> None:
    way = SCREENS[screen]
    wrong = f"plug.error = '{way}';" if isinstance(way, str) else ""
    view = {"viewport": {"width": width, "height": height}}
    with kiosk_page(browser, kiosk.address, script=HOLD + PLUG + wrong, reduced_motion="reduce", **view) as page:
        if isinstance(way, str):
            wait_state(page, screen)
        else:
            way(page)
        options = load_axe(page)
        for language in LANGUAGES if width == 390 else ("en", "de", "ja"):  # texts matter most where room is short
            assert page.evaluate(CHOOSE, language) == language
            assert page.evaluate(CHECK, options) == [], language


def test_axe_would_find_a_small_button(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address) as page:
        wait_state(page, "attract")
        page.evaluate(
            "() => { primary.style.cssText = 'min-width:0;min-height:0;padding:0;font-size:6px;height:9px'; }"
        )
        options = load_axe(page)
        page.evaluate("() => { buttons.style.gap = 0; secondary.before(primary.cloneNode(true)); }")
        found = page.evaluate(CHECK, options)
        assert "primary" in found
        assert "target-size" in [rule[0] for rule in found if isinstance(rule, list)]


def test_the_keyboard_alone(browser: Any, kiosk: Running) -> None:
    focus = "() => document.activeElement.id"
    with kiosk_page(browser, kiosk.address) as page:
        wait_state(page, "attract")
        page.keyboard.press("Shift+Tab")
        assert page.evaluate(focus) == "languages"
        page.keyboard.press("Enter")
        page.locator("#choices [lang=fr]").focus()
        page.keyboard.press("Enter")
        assert page.inner_text("#primary") == "Commencer"
        page.locator("#primary").focus()
        page.keyboard.press("Space")
        wait_state(page, "live")
        assert page.evaluate(focus) == "primary"  # where one would press next
        page.keyboard.press("Enter")
        wait_state(page, "counting")
        page.keyboard.press("Escape")
        wait_state(page, "live")
        page.keyboard.press("Enter")
        wait_done(page)
        assert page.evaluate(focus) == "primary"
        assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Tab")
        assert page.evaluate(focus) == "secondary"
        page.keyboard.press("Enter")
        wait_state(page, "attract")
        assert page.inner_text("#primary") == "Start"  # the next guest begins in the kiosk's language


def test_a_screen_reader_is_told(browser: Any, kiosk: Running) -> None:
    log = """
    window.told = [];
    addEventListener("DOMContentLoaded", () => {
      for (const id of ["spoken", "alert"]) {
        const node = document.getElementById(id);
        const all = { childList: true, characterData: true, subtree: true };
        new MutationObserver(() => told.push(node.textContent)).observe(node, all);
      }
    });
    """
    with kiosk_page(browser, kiosk.address, script=log) as page:
        take_photo(page)
        wait_done(page)
        text, score = page.inner_text("#critique"), page.inner_text("#points")
        told = page.evaluate("() => told")
        roles = [page.get_attribute("#spoken", "aria-live"), page.get_attribute("#alert", "role")]
    assert roles == ["polite", "alert"]
    assert [one for one in told if one in {"3", "2", "1"}] == ["3", "2", "1"]
    assert any(one.startswith("Looking at your photo") for one in told)
    assert any(one.startswith(f"{score} of 10, ") and "Sharpness: " in one for one in told)
    assert told[-1] == text


@pytest.mark.parametrize(("preference", "told"), [("reduce", "none"), ("no-preference", "tick")])
def test_nothing_moves_for_those_who_want_it_so(browser: Any, kiosk: Running, preference: str, told: str) -> None:
    with kiosk_page(browser, kiosk.address, reduced_motion=preference) as page:
        take_photo(page)
        wait_state(page, "counting")
        assert page.evaluate("() => getComputedStyle(count).animationName") == told


def test_high_contrast(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address, contrast="more") as page:
        wait_state(page, "attract")
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
    with kiosk_page(browser, kiosk.address, forced_colors="active") as page:
        wait_state(page, "attract")
        assert page.evaluate("() => getComputedStyle(primary).borderTopWidth") == "2px"


@pytest.mark.parametrize("where", ["live", "words"])
def test_a_time_out_warns_and_extends(browser: Any, kiosk: Running, where: str) -> None:
    """Twenty seconds to answer, as often as one likes; only then it starts over."""
    with kiosk_page(browser, kiosk.address, script=TURNED) as page:
        page.clock.install()
        page.goto(f"{kiosk.address}/kiosk")
        wait_state(page, "attract")
        page.click("#primary")
        if where == "words":
            page.click("#primary")
            turn(page, 4)
            wait_done(page)
        for _ in range(2):
            turn(page, 62)
            assert page.is_visible("#still")
            assert "start" in page.inner_text("#still-text")
            assert page.evaluate("() => document.activeElement.id") == "more-time"
            turn(page, 10)
            page.keyboard.press("Enter")
            assert not page.is_visible("#still")
            wait_state(page, where)
        turn(page, 62)
        assert page.is_visible("#still")
        turn(page, 22)
        wait_state(page, "attract")


def test_nobody_is_hurried_while_the_model_writes(browser: Any, kiosk: Running) -> None:
    with kiosk_page(browser, kiosk.address, script=HOLD + TURNED) as page:
        page.clock.install()
        page.goto(f"{kiosk.address}/kiosk")
        page.evaluate("() => { window.hold = 'score'; }")
        take_photo(page)
        turn(page, 4)
        wait_state(page, "score")
        turn(page, 20)
        assert not page.is_visible("#still")
