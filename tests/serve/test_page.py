"""The page in headless Chromium: by mouse and keyboard, for screen readers, on a phone; it asks its own server only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser import MARKS, axe_violations, quiet_browser
from serving import jpeg

from aesedge.bundle.bundle import POCKET, open_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving import Running

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with quiet_browser("127.0.0.1") as opened:
        yield opened


@pytest.fixture(params=[(1200, 900, "light"), (375, 700, "dark")], ids=["desk", "phone"])
def page(browser: Any, served: Running, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, on a desk and on a phone; at its end nothing was asked elsewhere, and nothing went wrong."""
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    shown = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    shown.on("request", lambda asks: asked.append(asks.url))
    shown.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.set_default_timeout(20_000)
    shown.goto(served.address)
    yield shown
    context.close()
    assert [
        told for told in wrong if "400 (Bad Request)" not in told
    ] == []  # which is how what is no photo is answered
    own = (served.address, f"blob:{served.address}", "data:")
    assert [url for url in asked if not url.startswith(own)] == []


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c <b>.jpg")]
    for seed, path in enumerate(paths):
        path.write_bytes(jpeg(200 + seed, (320, 240)))
    return [str(path) for path in paths]


def add(page: Any, paths: list[str]) -> None:
    page.set_input_files("#files", paths)
    page.wait_for_function("n => document.querySelectorAll('.card:not(.waiting)').length === n", arg=len(paths))


def test_photos_get_scores_and_are_sorted(page: Any, three: list[str]) -> None:
    add(page, three)
    scores = [float(text) for text in page.locator(".card .score").all_inner_texts()]
    assert len(scores) == 3
    assert page.locator("#status").inner_text() == "3 photos scored"
    page.select_option("#order", "best")
    assert [float(text) for text in page.locator(".card .score").all_inner_texts()] == sorted(scores, reverse=True)
    page.select_option("#order", "worst")
    assert [float(text) for text in page.locator(".card .score").all_inner_texts()] == sorted(scores)
    assert "c <b>.jpg" in page.locator(".card .name").all_inner_texts()  # a name is text, never markup
    assert axe_violations(page) == []


def test_a_photo_is_talked_about(page: Any, three: list[str]) -> None:
    add(page, three[:1])
    page.locator(".card").click()
    page.wait_for_function("() => document.getElementById('talk').getAttribute('aria-busy') === 'false'")
    critique = page.locator("#talk .said").inner_text()
    assert len(critique) > 20
    attributes = open_bundle(POCKET).manifest.rating.attributes
    assert page.locator("#scores meter").count() == 1 + len(attributes)
    page.fill("#question", "Is it sharp?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#talk .said').length === 2")
    page.wait_for_function("() => document.getElementById('talk').getAttribute('aria-busy') === 'false'")
    assert page.locator("#talk .asked").inner_text().endswith("Is it sharp?")
    assert page.locator("#talk .said").nth(1).inner_text()
    assert axe_violations(page) == []
    page.keyboard.press("Escape")
    page.locator(".card").click()  # what was said is there again
    assert page.locator("#talk .said").first.inner_text() == critique


def test_everything_works_by_keyboard(page: Any, three: list[str]) -> None:
    add(page, three[:2])
    page.locator("#order").focus()
    page.keyboard.press("Tab")
    label = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    assert label.startswith("a.jpg: score ")
    page.keyboard.press("Enter")
    assert page.locator("#photo").is_visible()
    assert page.evaluate("() => document.activeElement.id") == "question"
    page.keyboard.press("Escape")
    assert not page.locator("#photo").is_visible()
    assert page.evaluate("() => document.activeElement.className") == "card"


def test_what_is_no_photo_is_told(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no photo")
    page.set_input_files("#files", [str(path)])
    page.wait_for_selector(".card.failed")
    page.locator(".card").click()
    assert "cannot be read" in page.locator("#talk").inner_text()
    page.keyboard.press("Escape")
    (tmp_path / "notes.txt").write_text("x")
    page.set_input_files("#files", [str(tmp_path / "notes.txt")])
    assert "no photo" in page.locator("#status").inner_text()


def test_nothing_is_wider_than_the_screen(page: Any, three: list[str]) -> None:
    add(page, three)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.locator(".card").first.click()
    assert page.evaluate("() => document.getElementById('photo').scrollWidth <= innerWidth")


def test_a_folder_is_dropped(page: Any, tmp_path: Path) -> None:
    """Dropped as by hand: Chromium hands the folder over as an entry, and the page reads it with those below."""
    folder = tmp_path / "holiday"
    for i, name in enumerate(("a.jpg", "deep/deeper/b.JPG", "deep/notes.txt", "empty/.keep")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(250 + i))
    single = tmp_path / "c.jpg"
    single.write_bytes(jpeg(260))
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder), str(single)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 100, "y": 100, "data": data})
    page.wait_for_function("() => document.querySelectorAll('.card:not(.waiting)').length === 3")
    assert sorted(page.locator(".card .name").all_inner_texts()) == ["a.jpg", "b.JPG", "c.jpg"]
    assert page.locator("#status").inner_text() == "3 photos scored"
    assert "over" not in (page.locator("#drop").get_attribute("class") or "")
