"""The machine's Chromium without a window, driven by Playwright, and axe-core in its pages."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
_QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-pings"]
"""Flags that keep a plain browser from calling home."""


@contextmanager
def quiet_browser(*hosts: str) -> Iterator[Any]:
    """Start a browser that finds no host but these."""
    rules = "".join(f", EXCLUDE {host}" for host in hosts)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        flags = [*_QUIET, f"--host-resolver-rules=MAP * ~NOTFOUND{rules}", "--no-sandbox"]
        opened = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


def load_axe(page: Any) -> dict[str, Any]:
    """Load axe-core into the page; return the options that switch on target sizes, which it leaves off."""
    axe = pytest.importorskip("axe_playwright_python.base")
    page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))  # a strict policy stops script tags, not this
    tags = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice", "EN-301-549"]
    return {"runOnly": {"type": "tag", "values": tags}, "rules": {"target-size": {"enabled": True}}}


def axe_violations(page: Any) -> list[Any]:
    """Return what axe-core finds."""
    found = page.evaluate("options => axe.run(document, options)", load_axe(page))
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
