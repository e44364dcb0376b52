"""The contact sheet in headless Chromium from file://: offline, by keyboard, for screen readers, with many photos."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from browser import MARKS, axe_violations, quiet_browser
from conftest import drawn_photo
from judged_library import judge

from aesedge.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = MARKS
NAMES = ["a & b.jpg", "c <b>x.jpg", "d #%?.jpg", "e.jpg"]
RESET = """() => {
    const filters = document.getElementById("filters");
    filters.reset();
    filters.dispatchEvent(new Event("input"));
}"""
CRITIQUE = 'It is "sharp" </script><script>document.title = "broken"</script> & bright.'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with quiet_browser() as opened:
        yield opened


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A sheet of four photos; the best is a burst's, and a person has rated the last."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        drawn_photo(i, (640, 480)).save(folder / name)
    judge(folder, dict(zip(NAMES, (8.4, 6.6, 4.0, 2.0), strict=True)), critique=CRITIQUE)
    (folder / "e.jpg.xmp").write_bytes(
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="2"/></rdf:RDF>'
    )
    assert main(["sheet", str(folder), "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out" / "index.html"


@pytest.fixture(params=[(1200, 900, "light"), (375, 700, "dark")], ids=["desk", "phone"])
def page(browser: Any, sheet: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page; at its end nothing was asked of a network, and nothing went wrong."""
    yield from opened(browser, sheet, *request.param)


def opened(browser: Any, path: Path, width: int = 1200, height: int = 900, scheme: str = "light") -> Iterator[Any]:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    shown = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    shown.on("request", lambda asks: asked.append(asks.url))
    shown.on("requestfailed", lambda asks: wrong.append(asks.url))
    shown.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.set_default_timeout(20_000)
    shown.goto(path.as_uri())
    yield shown
    context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def names(page: Any) -> list[str]:
    return page.locator("#photos .name").all_inner_texts()


def test_photos_are_shown_and_sorted(page: Any) -> None:
    assert names(page) == NAMES
    assert page.locator("#photos .score").all_inner_texts() == ["8.4", "6.6", "4.0", "2.0"]
    page.wait_for_function(
        "() => [...document.querySelectorAll('#photos img')].every((image) => image.naturalWidth === 320)"
    )
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert axe_violations(page) == []
    page.select_option("[name=order]", "worst")
    assert names(page) == NAMES[::-1]
    assert page.title() == "photos"


def test_filters(page: Any) -> None:
    for filters, wanted in (
        ({"stars": "unrated"}, NAMES[:3]),
        ({"stars": "=2"}, NAMES[3:]),
        ({"stars": "+3"}, []),
        ({"bursts": "only"}, NAMES[:1]),
        ({"attribute": "0", "below": "2.5"}, NAMES[2:]),
        ({"name": "<B>"}, NAMES[1:2]),
    ):
        for name, value in filters.items():
            box = page.locator(f"#filters [name={name}]")
            box.select_option(value) if box.evaluate("e => e.tagName") == "SELECT" else box.fill(value)
        assert names(page) == wanted, filters
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        assert names(page) == wanted, filters  # the address says it all
        page.evaluate(RESET)


def test_everything_works_by_keyboard(page: Any) -> None:
    page.locator("#photos button").first.focus()
    page.keyboard.press("4")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    page.keyboard.press("3")
    page.keyboard.press("u")
    labels = page.locator("#photos button").evaluate_all("all => all.map((b) => b.getAttribute('aria-label'))")
    assert labels[:3] == [
        "a & b.jpg, score 8.4, 4 stars, 1 of a burst of 2",
        "c <b>x.jpg, score 6.6, rejected",
        "d #%?.jpg, score 4.0, 3 stars",
    ]
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == labels[2]
    page.keyboard.press(" ")
    assert page.locator("#view").is_visible()
    page.keyboard.press("5")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#view-name").inner_text() == NAMES[1]
    page.keyboard.press("z")
    assert page.locator("#view.zoomed").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#view").is_visible()
    assert page.evaluate("() => document.activeElement.dataset.place") == "1"
    page.keyboard.press("Home")
    page.keyboard.press("g")
    assert names(page) == NAMES[:1]
    page.keyboard.press("g")
    assert names(page) == NAMES
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert axe_violations(page) == []


def test_the_full_picture_and_why(page: Any) -> None:
    page.locator("#photos button").first.click()
    page.wait_for_function("() => document.querySelector('#moving img').naturalWidth === 640")
    assert CRITIQUE in page.locator("#why .said").inner_text()
    assert "1 of 2 in its burst: sharper than the other" in page.locator("#why .said").inner_text()
    assert page.locator("#why meter").count() == 3
    assert page.evaluate("() => document.getElementById('view').scrollWidth <= innerWidth")
    assert axe_violations(page) == []
    page.keyboard.press("c")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#fixed img').naturalWidth === 640")
    assert page.locator("#fixed figcaption").inner_text().startswith(NAMES[0])
    assert page.locator("#moving figcaption").inner_text().startswith(NAMES[1])
    assert axe_violations(page) == []


def test_decisions_are_saved_loaded_and_written(browser: Any, sheet: Path, tmp_path: Path) -> None:
    pages = opened(browser, sheet)
    page = next(pages)
    page.locator("#photos button").first.focus()
    for key in ("3", "ArrowRight", "x", "End", "5"):
        page.keyboard.press(key)
    with page.expect_download() as download:
        page.locator("#save").click()
    saved = tmp_path / "decisions.json"
    download.value.save_as(saved)
    photos = tmp_path / "photos"
    assert [{k: v for k, v in d.items() if k != "key"} for d in json.loads(saved.read_text())["decisions"]] == [
        {"photo": str(photos / NAMES[0]), "rating": 3, "was": None},
        {"photo": str(photos / NAMES[1]), "pick": -1, "was": None},
        {"photo": str(photos / NAMES[3]), "rating": 5, "was": 2},
    ]
    page.reload()
    assert "3 decided" in page.locator("#status").inner_text()  # the draft
    page.evaluate("() => localStorage.clear()")
    page.reload()
    assert "0 decided" in page.locator("#status").inner_text()
    page.set_input_files("#load", str(saved))
    page.wait_for_function("() => document.getElementById('status').textContent.includes('3 decided')")
    page.set_input_files("#load", str(photos / "e.jpg.xmp"))
    page.wait_for_function("() => document.getElementById('status').textContent.includes('holds no decisions')")
    list(pages)
    assert main(["sheet", "--apply", str(saved)]) == 0
    assert b"<xmp:Rating>3</xmp:Rating>" in (photos / f"{NAMES[0]}.xmp").read_bytes()
    assert b"<xmp:Rating>-1</xmp:Rating>" in (photos / f"{NAMES[1]}.xmp").read_bytes()
    assert b'xmp:Rating="5"' in (photos / "e.jpg.xmp").read_bytes()


def test_a_single_file_needs_nothing_beside_it(browser: Any, sheet: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "sheet.html"
    assert main(["sheet", str(tmp_path / "photos"), "--out", str(alone), "--single-file"]) == 0
    assert [path.name for path in alone.parent.iterdir()] == ["sheet.html"]
    shutil.rmtree(tmp_path / "photos")
    pages = opened(browser, alone)
    page = next(pages)
    page.wait_for_function(
        "() => [...document.querySelectorAll('#photos img')].every((image) => image.naturalWidth === 320)"
    )
    page.locator("#photos button").first.click()
    page.wait_for_function("() => document.querySelector('#moving img').naturalWidth === 320")
    list(pages)


def test_ten_thousand_photos_stay_light(browser: Any, tmp_path: Path) -> None:
    from aesedge.contact_sheet.sheet import page as page_of

    photos = [{"n": f"{i:05}.jpg", "f": f"/p/{i}", "k": f"{i}", "s": i % 100 / 10, "u": ""} for i in range(10_000)]
    (tmp_path / "index.html").write_text(page_of({"id": "x", "attributes": [], "faults": [], "photos": photos}, "many"))
    pages = opened(browser, tmp_path / "index.html")
    page = next(pages)
    page.wait_for_function("() => document.querySelectorAll('#photos li').length > 10")
    page.locator("#photos button").first.focus()
    page.keyboard.press("End")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith("09900.jpg, score 0.0")
    page.evaluate("() => scrollTo(0, document.body.scrollHeight / 2)")
    page.wait_for_function("() => document.elementFromPoint(300, 400)?.closest('li')")
    assert page.locator("#photos li").count() < 120
    assert axe_violations(page) == []
    list(pages)
